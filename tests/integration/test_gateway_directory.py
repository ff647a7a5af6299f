"""``/v1/directory`` over the directory that user-sync writes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.errors import NotPermitted, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import service
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.roles.scopes import RolesReach
from support.databases import in_database
from support.directories import read
from support.gateways import Ask

PEOPLE = [f"u{number:02}" for number in range(7)]
READS = frozenset({"directory:read"})


async def fill(database: Database) -> None:
    """1 holds 2 and 3; u00 to u04 are in 2, u03 to u06 in 3; then u06 leaves."""
    directory = AppDirectory(database, "default")
    members = [Member(userid, {"name": userid.upper()}) for userid in PEOPLE]
    for run, in_three in (("one", members[3:]), ("two", members[3:6])):
        await read(directory, {1: [], 2: members[:5], 3: in_three}, {1: (2, 3)}, run=run)
        users, _ = await directory.unmet(run, most=50, confirm_removals=True)
        await directory.note_users(run, met=[], hidden=[], gone=users)
        await directory.close_run(run, confirm_removals=True)


@pytest.fixture
async def filled(database: Database) -> DirectoryService:
    await fill(database)
    return DirectoryService(database)


Find = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def find(filled: DirectoryService) -> Find:
    """The userids of people that are chosen."""

    async def found(
        department: int | None = None,
        after: str | None = None,
        *,
        app: str = "default",
        left: bool = False,
        limit: int = 50,
    ) -> list[str]:
        chosen = await filled.users(app, department=department, left=left, after=after, limit=limit)
        return [person.userid for person in chosen]

    return found


async def test_people_come_in_pages_with_their_departments(
    filled: DirectoryService, find: Find
) -> None:
    first = await filled.users("default", department=None, left=False, after=None, limit=4)
    assert [person.userid for person in first] == PEOPLE[:4]
    assert [list(person.departments) for person in first] == [[2], [2], [2], [2, 3]]
    assert (first[0].name, first[0].fields["name"], first[0].left_at) == ("U00", "U00", None)
    assert await find(after="u03", limit=4) == PEOPLE[4:6]
    assert await find(app="other") == []
    (gone,) = await filled.users("default", department=None, left=True, after=None, limit=50)
    assert (gone.userid, list(gone.departments), gone.left_at is None) == ("u06", [], False)


async def test_people_of_a_department_are_those_in_and_below_it(find: Find) -> None:
    assert await find(3) == ["u03", "u04", "u05"]
    assert await find(1) == PEOPLE[:6]
    assert await find(1, "u04") == ["u05"]
    assert await find(9) == []


async def test_departments_come_in_pages(filled: DirectoryService) -> None:
    every = await filled.departments("default", parent=None, after=None, limit=2)
    found = [(entry.id, entry.name, entry.parent) for entry in every]
    assert found == [(1, "team 1", None), (2, "team 2", 1)]
    (rest,) = await filled.departments("default", parent=None, after=2, limit=2)
    assert rest.id == 3
    below = await filled.departments("default", parent=1, after=None, limit=9)
    assert [(entry.id, entry.people, entry.leaf) for entry in below] == [(2, 5, True), (3, 3, True)]
    assert (every[0].people, every[0].leaf) == (6, False)


async def test_a_tree_of_departments_counts_each_person_once(filled: DirectoryService) -> None:
    found, more = await filled.nodes("default")
    assert [(each.id, each.name, each.people, each.leaf) for each in found] == [
        (1, "team 1", 6, False),
        (2, "team 2", 5, True),
        (3, "team 3", 3, True),
    ]
    assert more == 0
    assert await filled.nodes("default", parents=[2], ids=[3], named="m 3") == (found, 0)
    assert await filled.nodes("other", parents=[1]) == ([], 0)


async def test_departments_that_were_chosen_or_are_called_so_are_always_there(
    filled: DirectoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_NODES", 2)
    choices: tuple[tuple[dict[str, Any], list[int]], ...] = (
        ({}, [1, 2]),
        ({"ids": [3]}, [1, 2, 3]),
        ({"named": "team 3"}, [1, 3]),
    )
    for choice, ids in choices:
        nodes, more = await filled.nodes("default", **choice)
        assert ([node.id for node in nodes], more) == (ids, 3 - len(ids))


async def test_a_directory_that_is_away_is_reported() -> None:
    database = Database("postgresql://stranger@127.0.0.1:1/nowhere")
    with pytest.raises(ServiceUnavailable):
        await DirectoryService(database).departments("default", parent=None, after=None, limit=1)
    await database.dispose()


@pytest.mark.parametrize("kind", ["key", "person"])
async def test_an_actor_reads_the_directories_of_its_apps(
    kind: str, filled: DirectoryService
) -> None:
    grant = Grant(name="hr", scopes=READS, apps=frozenset({"default"}), sender="hr")
    ACTOR.set(Actor("http", "x", reach=grant if kind == "key" else RolesReach([grant])))
    assert await filled.departments("default", parent=None, after=None, limit=1)
    assert await filled.users("default", department=None, left=False, after=None, limit=1)
    with pytest.raises(NotPermitted):
        await filled.departments("other", parent=None, after=None, limit=1)
    with pytest.raises(NotPermitted):
        await filled.users("other", department=None, left=False, after=None, limit=1)


@pytest.fixture
def grants() -> Sequence[Grant]:
    hr = Grant(name="hr", scopes=READS, apps=frozenset({"hr"}))
    return [Grant(name="crm", scopes=READS), hr]


def test_a_client_walks_the_pages(callers: dict[str, Ask], settings: Settings) -> None:
    in_database(settings.database, fill)
    crm = callers["crm"]
    for path, name, identity in (
        ("/v1/directory/users?limit=4", "users", "userid"),
        ("/v1/directory/departments?limit=2", "departments", "id"),
    ):
        first = crm("GET", path)
        assert first.status == 200, first.content
        second = crm("GET", f"{path}&cursor={first.json['next']}").json
        seen = [entry[identity] for entry in first.json[name] + second[name]]
        assert seen == sorted(set(seen))
        assert second["next"] is None
    inside = crm("GET", "/v1/directory/users?department=3&left=false").json
    assert [person["userid"] for person in inside["users"]] == ["u03", "u04", "u05"]
    named = crm("GET", "/v1/directory/departments?named=m%203").json
    assert [(each["id"], each["people"]) for each in named["departments"]] == [(3, 3)]


def test_wrong_questions_are_refused(callers: dict[str, Ask]) -> None:
    refused = callers["hr"]("GET", "/v1/directory/users")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (403, "?app")
    for query in (
        *("limit=0", "limit=501", "app=a%20b", "left=perhaps", "who=me", "limit=1&limit=2"),
        *("department=x", "department=99999999999999999999"),
        *(f"cursor={paging.encode(each)}" for each in (1, "\x00", "\x00" * 700)),
    ):
        wrong = callers["crm"]("GET", f"/v1/directory/users?{query}")
        assert wrong.status == 422, query
        assert wrong.json["errors"][0]["pointer"].startswith("?")
