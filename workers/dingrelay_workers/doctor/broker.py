"""Celery's broker, and the workers behind it."""

from datetime import UTC, datetime
from typing import Any, cast

from amqp.exceptions import PreconditionFailed
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_sync
from dingrelay_tasks.contract import QUEUES
from dingrelay_tasks.sentence import en
from dingrelay_workers.doctor.causes import CheckResult, cause
from dingrelay_workers.doctor.other_protocol import check_protocol

TIMEOUT = 3
QUEUES_ADVICE = en(
    "set DINGRELAY_RABBITMQ_QUEUES=classic, or delete the queues while they are not in use"
)
ANSWER_SECONDS = (1.0, 3.0)
"""How long workers have to tell what they serve; the second time where a lane is missing: busy ones are slow."""


def check_broker(settings: Settings) -> CheckResult:
    """Whether a connection can be opened."""
    config = celery_config(settings)
    try:
        with Connection(
            config["broker_url"],
            ssl=config["broker_use_ssl"],
            connect_timeout=TIMEOUT,
            transport_options=config["broker_transport_options"],
        ) as connection:
            # kombu's URI has its password masked.
            address = connection.as_uri()
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT)
            if settings.broker_address is None:
                for queue in config["task_queues"]:
                    queue(connection.default_channel).declare()
    except PreconditionFailed as error:
        # Such as "inequivalent arg 'x-queue-type' for queue 'dingrelay.normal'".
        finding = en("its queues are of another type: {}", error.reply_text)
        return CheckResult("broker", "failed", finding[:200], QUEUES_ADVICE)
    except (KombuError, OSError, ValueError, KeyError) as error:
        if other_protocol := check_protocol(
            "broker", settings.broker_address, "DINGRELAY_BROKER_URL"
        ):
            return other_protocol
        tls = config["broker_use_ssl"]
        unshown = bool(tls) and not {"certfile", "ssl_certfile"}.intersection(tls)
        if known_cause := cause("broker", error, "DINGRELAY_BROKER_URL", unshown=unshown):
            return known_cause
        return CheckResult(
            "broker",
            "unreachable",
            en("no connection ({})", type(error).__name__),
            "start it, or correct DINGRELAY_BROKER_URL",
        )
    return CheckResult("broker", "ok", address)


def check_workers(settings: Settings) -> CheckResult:
    """Whether each queue has a worker."""
    celery = Celery("dingrelay-doctor", set_as_current=False)
    celery.config_from_object(celery_config(settings))
    try:
        with celery:
            answers = _answers(celery)
    except (KombuError, RedisError, OSError) as error:
        running = en("can't be asked: the broker refuses ({})", type(error).__name__)
        return CheckResult(
            "workers", "failed", running, "see what is wrong with Redis or the broker"
        )
    if not answers:
        advice = en("start some: dingrelay worker, on this machine or on others")
        return CheckResult("workers", "warning", en("none is running: jobs wait"), advice)
    missing = [name.removeprefix("dingrelay.") for name in _missing(answers)]
    running = en("{} running", len(answers))
    if not missing:
        return CheckResult("workers", "ok", en("{}, every lane is served", running))
    lanes = ",".join(missing)
    return CheckResult(
        "workers",
        "warning",
        en("{}, none serves {}", running, lanes),
        en("start one: dingrelay worker --lanes {}", lanes),
    )


def check_refused(settings: Settings) -> CheckResult | None:
    """How many texts workers refused, for as long as these are kept; None if there were none."""
    address = settings.broker_address
    if address is None:
        return None
    with open_sync(address, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT) as redis:
        try:
            count = redis.llen(keys.REFUSED)
            latest = cast("bytes | None", redis.lindex(keys.REFUSED, 0))
        except (RedisError, OSError):
            return None  # the broker's own line says what is wrong with it
    if not latest:
        return None
    moment, queue = latest.split(b"\n")[0].split(b" ", 1)
    at = datetime.fromtimestamp(int(moment), UTC).isoformat()
    finding = en(
        "{} texts were no messages; the latest came at {} in {}", count, at, queue.decode()
    )
    advice = en(
        "see message_refused in the logs of the workers; the broker has the texts: LRANGE {} 0 -1",
        keys.REFUSED,
    )
    return CheckResult("refused messages", "warning", finding, advice)


def _answers(celery: Celery) -> dict[str, Any]:
    """Each worker's name → its queues."""
    answers: dict[str, Any] = {}
    for seconds in ANSWER_SECONDS:
        answers |= celery.control.inspect(timeout=seconds).active_queues() or {}
        if not _missing(answers):
            break
    return answers


def _missing(answers: dict[str, Any]) -> list[str]:
    served = {queue["name"] for queues in answers.values() for queue in queues}
    return [name for name in QUEUES if name not in served]
