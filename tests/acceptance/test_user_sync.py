"""user-sync of a whole organisation through real workers, compared with the sandbox's organisation."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from acceptance.fleet import Fleet
from conftest import wait_until
from dingrelay_producers import Client, JobStatus, State
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_sync
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_tasks.contract import DIRECTORY_QUEUE, QUEUES
from support.databases import rows

NO_CALLS_RULE = json.dumps({"*": {"calls": ""}})
PAGE = 100

Departments = set[tuple[int, int | None, str]]
Users = set[tuple[str, str, str | None]]
Memberships = set[tuple[int, str]]


def expected(sandbox: SandboxAdmin) -> tuple[Departments, Users, Memberships]:
    """Departments, people and who is where, by the sandbox."""
    organisation = sandbox.organisation()
    return (
        {
            (each["dept_id"], each.get("parent_id"), each["name"])
            for each in organisation["departments"]
        },
        {(each["userid"], each["name"], each.get("email")) for each in organisation["users"]},
        {
            (where, each["userid"])
            for each in organisation["users"]
            for where in each["dept_id_list"]
        },
    )


def kept(env: Mapping[str, str]) -> tuple[Departments, Users, Memberships]:
    """The same by the directory; those who have left are not there."""
    url = env["DINGRELAY_DATABASE_URL"]
    departments = rows(url, "select id, parent, name from departments where left_at is null")
    users = rows(url, "select userid, name, fields from users where left_at is null")
    memberships = rows(url, "select department, userid from memberships")
    return (
        {(each["id"], each["parent"], each["name"]) for each in departments},
        {(each["userid"], each["name"], _decoded(each["fields"]).get("email")) for each in users},
        {(each["department"], each["userid"]) for each in memberships},
    )


def _decoded(fields: Any) -> dict[str, Any]:
    """SQLite returns JSON as text."""
    decoded: dict[str, Any] = json.loads(fields) if isinstance(fields, str) else fields
    return decoded


def left(env: Mapping[str, str]) -> tuple[set[int], set[str]]:
    """Departments and people that are marked as left."""
    url = env["DINGRELAY_DATABASE_URL"]
    departments = rows(url, "select id from departments where left_at is not null")
    users = rows(url, "select userid from users where left_at is not null")
    return {each["id"] for each in departments}, {each["userid"] for each in users}


def fewest_calls(sandbox: SandboxAdmin) -> int:
    """One call a department for those below it, and one for each page of its members."""
    departments, _, memberships = expected(sandbox)
    sizes = Counter(department for department, _ in memberships)
    return sum(1 + max(1, math.ceil(sizes[number] / PAGE)) for number, *_ in departments)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("generation", "users", "departments", "members_api", "parameter"),
    [
        # Departments of more than one page each, and many that are small.
        ("v2", 450, 4, "/topapi/v2/user/list", "dept_id"),
        ("v1", 300, 30, "/user/listbypage", "department_id"),
    ],
)
def test_the_directory_becomes_the_organisation_though_a_department_fails_for_a_while(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    sandbox_env: dict[str, str],
    generation: str,
    users: int,
    departments: int,
    members_api: str,
    parameter: str,
) -> None:
    sandbox.seed(users=users, departments=departments)
    sandbox.set_limits(calls="", egress="")
    fleet.spawn(
        2,
        concurrency=8,
        queues=QUEUES,
        DINGTALK_CONTACTS_API=generation,
        DINGRELAY_RULES=NO_CALLS_RULE,
    )
    sandbox.add_fault("http", api=members_api, match={parameter: 3}, count=3, status=503)
    first = client.send(UserSync()).wait(150)
    assert first.state == State.DONE, first
    assert first.result is not None
    assert kept(sandbox_env) == expected(sandbox)
    assert left(sandbox_env) == (set(), set())
    counts = ("departments", "users", "added", "changed", "left")
    assert [first.result[name] for name in counts] == [departments, users, users, 0, 0]
    audit = sandbox.audit()
    calls = sum(call["app"] != "" for call in sandbox.calls())
    assert audit["faults"]["http"] == 3
    # The token, what the app may see and the root; and what failed is asked again from the start.
    assert calls <= fewest_calls(sandbox) + 3 + 2 * audit["faults"]["http"]

    gone = {"u11", "u222", "u299"}
    for userid in gone:
        sandbox.delete_user(userid)
    sandbox.put_user("u5", name="改名", dept_id_list=[3])
    dissolved = departments
    for number, userid in expected(sandbox)[2]:
        if number == dissolved:
            sandbox.put_user(userid, dept_id_list=[2])
    sandbox.delete_department(dissolved)
    second = client.send(UserSync()).wait(150)
    assert second.state == State.DONE, second
    assert second.result is not None
    assert kept(sandbox_env) == expected(sandbox)
    assert left(sandbox_env) == ({dissolved}, gone)
    assert (second.result["added"], second.result["left"]) == (0, len(gone))


def test_a_scheduled_sync_is_made_once_though_the_workers_are_killed(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, sandbox_env: dict[str, str]
) -> None:
    sandbox.seed(users=20, departments=3)
    every = '{"every": "24h"}'
    fleet.spawn(2, queues=[DIRECTORY_QUEUE], DINGRELAY_SYNC=every)
    wait_until(lambda: [each.state for each in scheduled(client)] == [State.DONE], timeout=60)
    assert kept(sandbox_env) == expected(sandbox)

    for worker in fleet.workers:
        worker.kill()
    with open_sync(RedisAddress.parse(sandbox_env["DINGRELAY_REDIS_URL"])) as redis:
        # As if the one that led had died before it could note what it had enqueued.
        assert redis.delete(keys.scheduled_sync("default"))
        fleet.spawn(2, queues=[DIRECTORY_QUEUE], DINGRELAY_SYNC=every)
        wait_until(lambda: redis.exists(keys.scheduled_sync("default")), timeout=60)
    assert len(scheduled(client)) == 1


def scheduled(client: Client) -> list[JobStatus]:
    """The syncs of the schedule."""
    return client.jobs(kind="user-sync", sender="schedule")
