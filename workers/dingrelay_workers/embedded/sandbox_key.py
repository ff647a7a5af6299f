"""The API key of a sandbox's gateway, which `dingrelay up` shows."""

import os
from pathlib import Path

from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import ANY, Grant
from dingrelay_workers.keys.store import SqlKeyStore

FILE = "gateway-key"
PATIENCE = 10.0
"""Seconds for the database, which the programs that have just started use as well."""


async def sandbox_key(database_url: str, folder: Path) -> str:
    """A key that may do everything; the same each time, while its file and its database are there.

    Raises:
        ServiceUnavailable: the database is away.
    """
    path = folder / FILE
    database = Database(database_url)
    try:
        keys = SqlKeyStore(database, patience=PATIENCE)
        known = path.read_text("utf-8").strip() if path.exists() else ""
        if known and await keys.verify(known):
            return known
        issued = await keys.create(Grant(name="sandbox", scopes=frozenset({ANY}), sender=ANY))
        await keys.close()
    finally:
        await database.dispose()
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(issued.text + "\n")
    return issued.text
