"""The list of nouns: what each declares is there, and nothing of one is left out of its declaration."""

from pathlib import Path
from typing import get_type_hints

import pytest

import dingrelay_workers
from dingrelay_workers.noun import Noun
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.subjects import PersonalData

ROOMS = Path(dingrelay_workers.__path__[0])
KINDS = {
    "service.py": "services",
    "routes.py": "routes",
    "models.py": "tables",
    "cli.py": "commands",
}


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
def test_every_part_that_a_noun_declares_is_there(noun: Noun) -> None:
    parts = [
        getattr(each, "part", each)
        for name in get_type_hints(Noun)
        if isinstance(declared := getattr(noun, name), tuple) and name != "audited"
        for each in declared
    ]
    parts += [part for each in noun.audited for part in (each.states, each.writers) if part]
    assert all(noun.load(part) is not None for part in parts)
    assert all(isinstance(noun.load(part), PersonalData) for part in noun.personal_data)


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
def test_every_part_of_a_noun_is_declared(noun: Noun) -> None:
    files = {path.name for path in noun.folder.glob("*.py")}
    missing = [file for file, field in KINDS.items() if file in files and not getattr(noun, field)]
    # Roles are given by a command of the console's.
    assert missing == (["cli.py"] if noun.name in {"roles", "sessions"} else [])
    pages = {path.stem for path in noun.folder.glob("*console_routes.py")}
    assert pages == set(noun.pages)


def test_every_folder_with_tables_is_a_noun() -> None:
    folders = {path.parent.name for path in ROOMS.glob("*/models.py")}
    assert folders == {noun.name for noun in NOUNS if noun.tables}
