"""Checks of settings that only the workers understand."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.apps import refuse_empty_agent_ids
from dingrelay_tasks.robot_post import ROBOTS
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.limiter.rules import Rules


def check(settings: Settings) -> None:
    """Read the rules and the overrides of the error table once, before anything starts.

    Raises:
        SettingsError: names what cannot be read.
    """
    try:
        Rules.from_settings(settings.limits, settings.egress)
        Classifier(settings.codes)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def check_cell(settings: Settings) -> None:
    """Whether a worker knows whose apps it serves.

    Raises:
        SettingsError: it does not.
    """
    settings.cell_of(None)


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
            "no DingTalk application is configured: set DINGTALK_APP_KEY, DINGTALK_APP_SECRET and "
            "DINGTALK_AGENT_ID"
        )
    for name in sorted({*settings.apps, *settings.sync.apps, *settings.named_apps} - {ROBOTS}):
        settings.app(name)
    refuse_empty_agent_ids()


@contextmanager
def refusing() -> Generator[None]:
    """End the process with one line where a worker must not start; Celery would show a traceback.

    A message alone would make the exit code 1; a wrong setting has 2 in all commands.
    """
    try:
        yield
    except SettingsError as error:
        sys.stderr.write(f"dingrelay: {error}\n")
        raise SystemExit(2) from None
