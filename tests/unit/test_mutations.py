"""The mutations of the simulation and of chaos follow the source."""

import re
from pathlib import Path

import pytest

from dingrelay_simulation.mutations import MUTATIONS, PACKAGES, ROOT, SEEDS, Mutation, copy_tree
from dingrelay_simulation.reached import MARKS, mark


def test_every_behaviour_that_a_mutation_takes_out_is_in_the_source() -> None:
    assert [mutation.name for mutation in MUTATIONS if not mutation.applies] == []


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_the_table_names_mutations_of_the_list() -> None:
    text = (ROOT / "ops/simulation/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE)
    assert rows
    assert {name for name, _ in rows} <= {mutation.name for mutation in MUTATIONS}
    assert all(0 < int(seed) <= SEEDS for _, seed in rows)


def test_only_a_copy_is_changed(tmp_path: Path) -> None:
    mutation = MUTATIONS[0]
    copy_tree(tmp_path, PACKAGES)
    mutation.apply(tmp_path)
    assert mutation.applies
    assert mutation.old not in (tmp_path / mutation.file).read_text("utf-8")


def test_a_mark_notes_its_mutation_where_the_behaviour_matters(tmp_path: Path) -> None:
    copy_tree(tmp_path, PACKAGES)
    marked = [mutation for mutation in MUTATIONS if mutation.reached]
    for mutation in marked:
        mutation.mark(tmp_path)
    for mutation in marked:
        text = (tmp_path / mutation.file).read_text("utf-8")
        assert text.count(f"'{mutation.name}'") == 1
        if mutation.file.endswith(".py"):
            compile(text, mutation.file, "exec")
    assert mark("one")
    assert "one" in MARKS
    MARKS.discard("one")


def test_one_that_does_not_follow_the_source_is_refused(tmp_path: Path) -> None:
    mutation = Mutation("gone", "", MUTATIONS[0].file, "a text that is not there", "")
    with pytest.raises(ValueError, match="gone: its text is not in"):
        mutation.apply(tmp_path)
