"""The list of nouns. A program that walks it knows no noun's tables, modules or names.

To take a noun out is to delete its folder, its line here and its tests.
"""

from collections.abc import Sequence
from importlib import import_module

from dingrelay_workers.noun import Noun

NAMES = (
    # Its records of jobs come before its rows, which are written from them: so a job that ends while a person is
    # erased is in neither after both.
    "history",
    "approvals",
    "campaigns",
    "keys",
    "webhooks",
    "audit",
    "roles",
    "sessions",
    "recipients",
    "backlog",
    "outbox",
    "personal_data",
    # Drafts of campaigns name people as the directory has them, so a person is taken out of it last.
    "directory",
)
NOUNS: Sequence[Noun] = [import_module(f"dingrelay_workers.{name}").NOUN for name in NAMES]
"""Each as its folder declares it."""
