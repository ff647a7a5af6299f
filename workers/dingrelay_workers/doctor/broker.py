"""Celery's broker, and the workers behind it."""

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError

from dingrelay_producers.celery_config import QUEUES, celery_config
from dingrelay_producers.settings import Settings
from dingrelay_workers.doctor.check_result import CheckResult

TIMEOUT = 3
ANSWER_SECONDS = 1.0
"""How long workers have to tell what they serve."""


def check_broker(settings: Settings) -> CheckResult:
    """Whether a connection can be opened."""
    config = celery_config(settings)
    try:
        with Connection(
            settings.broker,
            connect_timeout=TIMEOUT,
            transport_options=config["broker_transport_options"],
        ) as connection:
            # The URI as kombu tells it has its password masked.
            address = connection.as_uri()
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT)
    except (KombuError, OSError, ValueError, KeyError) as error:
        return CheckResult(
            "broker",
            "unreachable",
            f"no connection ({type(error).__name__})",
            "start it, or correct DINGRELAY_BROKER_URL",
        )
    return CheckResult("broker", "ok", address)


def check_workers(settings: Settings) -> CheckResult:
    """Whether each queue has a worker."""
    celery = Celery("dingrelay-doctor", set_as_current=False)
    celery.config_from_object(celery_config(settings))
    with celery:
        answers = celery.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    served = {queue["name"] for queues in answers.values() for queue in queues}
    missing = [name.removeprefix("dingrelay.") for name in QUEUES if name not in served]
    found = f"{len(answers)} running"
    if not missing:
        return CheckResult("workers", "ok", f"{found}, every lane is served")
    lanes = ",".join(missing)
    return CheckResult(
        "workers",
        "warning",
        f"{found}, none serves {lanes}",
        f"start one: dingrelay worker --lanes {lanes}",
    )
