"""``/v1/directory`` over the directory that user-sync writes."""

from collections.abc import Iterator

import pytest

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.http import paging
from gateways import GatewayClient, MemoryBackend, gateway_thread
from tables import prepare

PEOPLE = [f"u{number:02}" for number in range(7)]


async def fill(database: Database, app: str = "default") -> None:
    """1 holds 2 and 3; u00 to u04 are in 2, u03 to u06 in 3; then u06 leaves."""
    directory = AppDirectory(database, app)
    root = Department(1, {"name": "all"})
    for run, in_three in (("one", PEOPLE[3:]), ("two", PEOPLE[3:6])):
        await directory.open_run(run, scope="everything", roots=[root], calls=0)
        children = [
            Department(2, {"name": "two", "parent_id": 1}),
            Department(3, {"name": "three", "parent_id": 1}),
        ]
        await directory.fill(run, root, children=children, members=[], calls=1)
        for department, userids in ((2, PEOPLE[:5]), (3, in_three)):
            members = [Member(userid, {"name": userid.upper()}) for userid in userids]
            await directory.fill(
                run, Department(department, {}), children=[], members=members, calls=1
            )
        users, _ = await directory.unmet(run, most=50, confirm_removals=True)
        await directory.note_users(run, met=[], hidden=[], gone=users)
        await directory.close_run(run, confirm_removals=True)


@pytest.fixture
async def filled(database: Database) -> DirectoryService:
    await fill(database)
    return DirectoryService(database)


async def test_people_come_in_pages_with_their_departments(filled: DirectoryService) -> None:
    first = await filled.users("default", department=None, left=False, after=None, limit=4)
    assert [person.userid for person in first] == PEOPLE[:4]
    assert [list(person.departments) for person in first] == [[2], [2], [2], [2, 3]]
    assert (first[0].name, first[0].fields["name"], first[0].left_at) == ("U00", "U00", None)
    rest = await filled.users("default", department=None, left=False, after="u03", limit=4)
    assert [person.userid for person in rest] == PEOPLE[4:6]
    assert await filled.users("other", department=None, left=False, after=None, limit=4) == []


async def test_people_of_a_department_are_those_in_and_below_it(filled: DirectoryService) -> None:
    async def inside(department: int, *, after: str | None = None) -> list[str]:
        found = await filled.users(
            "default", department=department, left=False, after=after, limit=50
        )
        return [person.userid for person in found]

    assert await inside(3) == ["u03", "u04", "u05"]
    assert await inside(1) == PEOPLE[:6]
    assert await inside(1, after="u04") == ["u05"]
    assert await inside(9) == []


async def test_people_who_left_are_listed_apart(filled: DirectoryService) -> None:
    (gone,) = await filled.users("default", department=None, left=True, after=None, limit=50)
    assert (gone.userid, list(gone.departments), gone.left_at is None) == ("u06", [], False)


async def test_departments_come_in_pages(filled: DirectoryService) -> None:
    every = await filled.departments("default", parent=None, after=None, limit=2)
    assert [(entry.id, entry.name, entry.parent) for entry in every] == [
        (1, "all", None),
        (2, "two", 1),
    ]
    (rest,) = await filled.departments("default", parent=None, after=2, limit=2)
    assert rest.id == 3
    below = await filled.departments("default", parent=1, after=None, limit=9)
    assert [(entry.id, entry.people, entry.leaf) for entry in below] == [(2, 5, True), (3, 3, True)]
    assert (every[0].people, every[0].leaf) == (6, False)


async def test_a_tree_of_departments_counts_each_person_once(filled: DirectoryService) -> None:
    found = await filled.nodes("default")
    assert [(each.id, each.name, each.people, each.leaf) for each in found] == [
        (1, "all", 6, False),
        (2, "two", 5, True),
        (3, "three", 3, True),
    ]
    assert await filled.nodes("default", parents=[2], ids=[3], named="hre") == found
    assert await filled.nodes("other", parents=[1]) == []


async def test_a_directory_that_is_away_is_reported() -> None:
    database = Database("postgresql://stranger@127.0.0.1:1/nowhere")
    with pytest.raises(ServiceUnavailable):
        await DirectoryService(database).departments("default", parent=None, after=None, limit=1)
    await database.dispose()


@pytest.fixture
def gateway(valkey_url: str, sqlite_url: str) -> Iterator[GatewayClient]:
    settings = Settings.load(env="sandbox", redis_url=valkey_url, database_url=sqlite_url)

    class Backend(MemoryBackend):
        async def close(self) -> None:
            await database.dispose()

    database = Database(sqlite_url)
    backend = Backend()
    backend.directory = DirectoryService(database)
    with gateway_thread(settings, backend) as client:
        yield GatewayClient(client.url, backend)


async def test_a_client_walks_the_pages(gateway: GatewayClient, sqlite_url: str) -> None:
    prepare(sqlite_url)
    database = Database(sqlite_url)
    await fill(database)
    await database.dispose()
    key = gateway.backend.keys.add("crm", "directory:read")
    for path, name, identity in (
        ("/v1/directory/users?limit=4", "users", "userid"),
        ("/v1/directory/departments?limit=2", "departments", "id"),
    ):
        first = gateway.ask("GET", path, key=key)
        assert first.status == 200, first.content
        second = gateway.ask("GET", f"{path}&cursor={first.json['next']}", key=key).json
        seen = [entry[identity] for entry in first.json[name] + second[name]]
        assert seen == sorted(set(seen))
        assert second["next"] is None
    inside = gateway.ask("GET", "/v1/directory/users?department=3&left=false", key=key).json
    assert [person["userid"] for person in inside["users"]] == ["u03", "u04", "u05"]
    named = gateway.ask("GET", "/v1/directory/departments?named=hre", key=key).json
    assert [(each["id"], each["people"]) for each in named["departments"]] == [(3, 3)]


def test_reading_beyond_the_scopes_of_a_key_is_refused(gateway: GatewayClient) -> None:
    hr = gateway.backend.keys.add("hr", "directory:read", apps=frozenset({"hr"}))
    writer = gateway.backend.keys.add("writer", "messages:write")
    refused = gateway.ask("GET", "/v1/directory/users", key=hr)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (403, "?app")
    assert gateway.ask("GET", "/v1/directory/departments?app=hr", key=writer).status == 403
    key = gateway.backend.keys.add("all")
    for query in (
        "limit=0",
        "limit=501",
        "app=a%20b",
        "department=x",
        "department=99999999999999999999",
        "left=perhaps",
        "cursor=" + paging.encode(1),
        "cursor=" + paging.encode("\x00" * 700),
        "who=me",
        "limit=1&limit=2",
    ):
        wrong = gateway.ask("GET", f"/v1/directory/users?{query}", key=key)
        assert wrong.status == 422, query
        assert wrong.json["errors"][0]["pointer"].startswith("?")
