"""What can be wrong with settings that only the workers understand."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.limiter.rules import Rules


def check(settings: Settings) -> None:
    """Read the rules and the overrides of the error table once, before anything starts.

    Raises:
        SettingsError: names what cannot be read.
    """
    try:
        Rules.from_settings(settings.rules, settings.egress)
        Classifier(settings.codes)
    except ValueError as error:
        raise SettingsError(str(error)) from None


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
