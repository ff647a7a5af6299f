"""How a worker that must not start says so."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from dingrelay_producers.errors import NotInstalled
from dingrelay_producers.language import spoken, translated
from dingrelay_producers.settings import SettingsError
from dingrelay_tasks.packaged_kinds import KindError


@contextmanager
def refusing() -> Generator[None]:
    """End the process with one line where a worker must not start; Celery would show a traceback.

    A message alone would make the exit code 1; a wrong setting has 2 in all commands.
    """
    try:
        yield
    except (SettingsError, NotInstalled, KindError) as error:
        with spoken():
            sys.stderr.write(f"dingrelay: {translated(str(error))}\n")
        raise SystemExit(2) from None
