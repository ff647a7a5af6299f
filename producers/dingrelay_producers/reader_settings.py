"""Language and time zone of a reader, for commands that have no `Settings` yet.

Making those takes a tenth of a second, and the help of a command needs none.
"""

import os
import re
from functools import lru_cache
from pathlib import Path


def asked(variable: str) -> str:
    """The variable's value in the environment, ``.env`` or the TOML file, as for `Settings`; empty if none has it.

    An unreadable file counts as empty: `Settings` reports it.
    """
    config = os.environ.get("DINGRELAY_CONFIG")
    return (
        os.environ.get(variable)
        or _of_file(Path(".env"), variable)
        or (_of_file(Path(config), variable, toml=True) if config else "")
    )


def _of_file(file: Path, variable: str, *, toml: bool = False) -> str:
    """A table of a thousand moments asks a thousand times, and reading takes 5 ms."""
    try:
        return _written(file.absolute(), file.stat().st_mtime_ns, variable, toml=toml)
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=4)
def _written(file: Path, _: int, variable: str, *, toml: bool) -> str:
    text = file.read_text("utf-8")
    name = variable.removeprefix("DINGRELAY_").lower() if toml else variable
    if name not in text:
        return ""
    if not toml:
        from dotenv import dotenv_values  # noqa: PLC0415  # few have such a file with it

        return dotenv_values(file).get(name) or ""
    import tomllib  # noqa: PLC0415  # as above

    # It stands before the first table, and the tables may be of ten thousand apps.
    head = re.split(r"^\s*\[", text, maxsplit=1, flags=re.MULTILINE)[0]
    return str(tomllib.loads(head).get(name, ""))
