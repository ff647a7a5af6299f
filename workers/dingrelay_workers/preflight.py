"""Checks of settings that only the workers understand."""

import sys
from contextlib import suppress

from structlog.stdlib import get_logger

from dingrelay_producers import zone
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_producers.settings.apps import refuse_empty_agent_ids
from dingrelay_producers.settings.robots import missing_webhooks
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_tasks.sentence import en
from dingrelay_workers.database import libpq
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.transport import DESCRIPTORS_ADVICE
from dingrelay_workers.limiter.rules import Rules

log = get_logger("dingrelay.worker")


def check(settings: Settings) -> None:
    """Read the rules, the overrides of the error table, the proxy, the zone and the database's URL once, before anything starts.

    Raises:
        SettingsError: names what cannot be read.
    """
    try:
        Rules.from_settings(settings.limits, settings.egress)
        Classifier(settings.codes)
        proxy_for(settings.oapi_url)
        zone.named(settings.timezone or zone.DEFAULT_ZONE)
        _check_database(settings)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _check_database(settings: Settings) -> None:
    if settings.database.startswith("postgresql:"):
        # Lanes that need no database need no driver.
        with suppress(ModuleNotFoundError):
            libpq.parameters(settings.database)


def check_apps(settings: Settings) -> None:
    """Whether a worker in production has DingTalk applications, each with its key, secret and agent id.

    Without them it would take jobs and hold each, unnoticed.

    Raises:
        SettingsError: names the variable that is missing.
    """
    if settings.env != "production":
        return
    if not settings.apps:
        raise SettingsError(
            en(
                "no DingTalk application is configured: set DINGTALK_APP_KEY, DINGTALK_APP_SECRET and "
                "DINGTALK_AGENT_ID"
            )
        )
    for name in sorted({*settings.apps, *settings.sync.apps} - {ROBOTS}):
        settings.app(name)
    refuse_empty_agent_ids()


def check_webhooks(settings: Settings) -> None:
    """Whether a worker has the webhook of each robot of the settings, which only workers need.

    Raises:
        SettingsError: names the variable that is missing.
    """
    for variable in missing_webhooks(settings.robots, settings.groups):
        raise SettingsError(en("{} is required", variable))


RESERVED = 100
"""Descriptors of a worker beside one for each job: Redis, the database, logs, probes."""


def raise_descriptor_limit(concurrency: int) -> None:
    """Let a worker open as many connections as it runs jobs, as far as it may."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Windows has none

    needed = concurrency + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        log.error("too_few_descriptors", limit=most, needed=needed, advice=DESCRIPTORS_ADVICE)
