"""A key for one group or robot sees and changes the jobs of that one only, also with any sender."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import insert

from dingrelay_producers import Client, Settings
from dingrelay_tasks import RobotMessage
from dingrelay_tasks.robot_recall import RobotRecall
from dingrelay_workers.database.database import Database
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http.api_keys import Grant
from support.databases import in_database
from support.gateways import Ask

TEXT = {"msgtype": "text", "text": {"content": "disk"}}
SCOPES = frozenset({"jobs:read", "jobs:write", "robots:write"})


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name=name, scopes=SCOPES, apps=frozenset(apps))
        for name, apps in (
            ("oncall", ["group:oncall"]),
            ("both", ["group:oncall", "robot:ops"]),
            ("robots", ["robots"]),
        )
    ]


def message(**to: Any) -> RobotMessage:
    return RobotMessage.parse({"to": to, "message": TEXT})


@pytest.fixture
def jobs(client: Client) -> dict[str, str]:
    """Target → job."""
    posted = [{"robot": "ops", "group": "sales", "query_key": "k"}]
    recall = RobotRecall.parse({"message": "m", "posts": posted})
    return {
        "oncall": client.send(message(group="oncall")).id,
        "sales": client.send(message(group="sales")).id,
        "ops": client.send(message(robot="ops")).id,
        "recall": client.send(recall).id,
    }


def listed(ask: Ask, path: str = "jobs") -> set[str]:
    return {job["id"] for job in ask("GET", f"/v1/{path}").json["jobs"]}


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("oncall", {"oncall"}),
        ("both", {"oncall", "ops"}),
        ("robots", {"oncall", "sales", "ops", "recall"}),
    ],
)
def test_a_list_has_the_jobs_of_its_targets(
    callers: dict[str, Ask], jobs: dict[str, str], name: str, sees: set[str]
) -> None:
    assert listed(callers[name]) == {jobs[target] for target in sees}


def test_the_jobs_of_other_groups_are_not_there(
    callers: dict[str, Ask], jobs: dict[str, str], store: Redis
) -> None:
    ask = callers["oncall"]
    own = ask("GET", f"/v1/jobs/{jobs['oncall']}")
    assert (own.status, own.json["target"]) == (200, "group:oncall")
    for target in ("sales", "ops", "recall"):
        job = jobs[target]
        assert ask("GET", f"/v1/jobs/{job}").status == 404
        for verb in ("cancel", "requeue", "discard", "resolve"):
            body = {"sent": True} if verb == "resolve" else None
            assert ask("POST", f"/v1/jobs/{job}/{verb}", body).status == 404, verb
    for job in jobs.values():
        store.hset(f"dingrelay:job:{job}", mapping={"state": "dead", "settled": 1})
        store.zadd("dingrelay:dead", {job: 1})
        store.expire("dingrelay:dead", 60)
    assert listed(ask, "dead") == {jobs["oncall"]}
    assert ask("POST", "/v1/dead/requeue").json["changed"] == 1
    assert store.hget(f"dingrelay:job:{jobs['sales']}", "state") == b"dead"


def test_the_history_of_other_targets_is_not_shown(
    callers: dict[str, Ask], settings: Settings
) -> None:
    at = datetime.now(UTC)
    rows = [
        {
            **dict.fromkeys(("sender", "key", "error_class", "error_code"), ""),
            "job": f"job-{target}",
            "kind": "robot-message",
            "app": "robots",
            "lane": "normal",
            "state": "done",
            "created_at": at,
            "started_at": at,
            "ended_at": at,
            "ids": [],
            "attempts": 1,
            "throttles": 0,
            "content": None,
            "summary": f"robot-message app=robots lane=normal to={target}",
        }
        for target in ("group:oncall", "group:sales", "robot:ops")
    ]
    people = [{"job": row["job"], "user": "u1", "outcome": "accepted", "at": at} for row in rows]

    async def write(database: Database) -> None:
        async with database.write("test") as connection:
            await connection.execute(insert(JobRow), rows)
            await connection.execute(insert(RecipientRow), people)

    in_database(settings.database, write)
    ask = callers["both"]
    assert listed(ask) == {"job-group:oncall", "job-robot:ops"}
    messages = ask("GET", "/v1/people/u1").json["messages"]
    assert {message["job"] for message in messages} == {"job-group:oncall", "job-robot:ops"}
