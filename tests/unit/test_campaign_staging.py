import tracemalloc
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_workers.campaigns.audience import Person, StagedChunk, Staging
from dingrelay_workers.campaigns.documents import FilledTemplate

PEOPLE = st.lists(st.tuples(st.integers(0, 30).map("u{}".format), st.integers(0, 4)), max_size=80)


def chunks(people: list[Person], size: int) -> list[StagedChunk]:
    with closing(Staging(varies=True)) as staging:
        staging.add(people)
        found = list(staging.chunks(size))
        assert staging.count_chunks(size) == len(found)
        assert staging.count() == sum(len(users) for users, _ in found)
        return found


@given(st.lists(PEOPLE, max_size=3), st.integers(1, 9))
def test_people_are_kept_once_in_order(batches: list[list[tuple[str, int]]], size: int) -> None:
    named = [userid for batch in batches for userid, _ in batch]
    with closing(Staging()) as staging:
        new = sum(staging.add([(userid, None) for userid, _ in batch]) for batch in batches)
        found = list(staging.chunks(size))
    once = list(dict.fromkeys(named))
    assert new == len(once)
    assert [userid for users, _ in found for userid in users] == once
    assert all(len(users) == size for users, _ in found[:-1])
    assert all(message is None for _, message in found)


@given(PEOPLE, st.integers(1, 9))
def test_equal_results_share_chunks(people: list[tuple[str, int]], size: int) -> None:
    groups: dict[int, list[str]] = {kind: [] for _, kind in people}
    first: dict[str, int] = {}
    for userid, kind in people:
        first.setdefault(userid, kind)
    for userid, kind in first.items():
        groups[kind].append(userid)
    rows = [
        (userid, FilledTemplate(f'{{"kind": {kind}}}', bytes([kind]))) for userid, kind in people
    ]
    found = chunks(rows, size)
    together = [
        (kind, [userid for users, _ in same for userid in users])
        for kind, same in groupby(found, key=lambda chunk: chunk[1] and chunk[1]["kind"])
    ]
    assert together == [(kind, group) for kind, group in groups.items() if group]
    assert all(0 < len(users) <= size for users, _ in found)
    assert len(found) == sum(-(-len(group) // size) for group in groups.values())


@given(PEOPLE, PEOPLE)
def test_removed_people_are_gone(
    people: list[tuple[str, int]], removed: list[tuple[str, int]]
) -> None:
    named = list(dict.fromkeys(userid for userid, _ in people))
    out = {userid for userid, _ in removed}
    with closing(Staging()) as staging:
        staging.add([(userid, None) for userid in named])
        assert staging.remove(userid for userid, _ in removed) == len(out.intersection(named))
        left = [userid for users, _ in staging.chunks(100) for userid in users]
    assert left == [userid for userid in named if userid not in out]


def test_memory_does_not_grow_with_the_people() -> None:
    tracemalloc.start()
    try:
        with closing(Staging()) as staging:
            for start in range(0, 50_000, 1_000):
                staging.add([(f"user{at % 40_000}", None) for at in range(start, start + 1_000)])
            assert sum(len(users) for users, _ in staging.chunks(100)) == 40_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def open_files() -> list[str]:
    names: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one through which the folder is read
            names.append(str(link.readlink()))
    return names


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="shows open files on Linux only")
def test_no_file_can_be_left_behind() -> None:
    with closing(Staging()) as staging:
        staging._connection.execute("PRAGMA cache_size = -64")
        staging.add([(f"user{number}", None) for number in range(10_000)])
        spilled = [name for name in open_files() if "etilqs" in name]
        assert spilled
        assert all(name.endswith(" (deleted)") for name in spilled)
    assert not [name for name in open_files() if "etilqs" in name]
