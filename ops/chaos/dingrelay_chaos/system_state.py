"""What the system knows and has sent at the end of a run: events, approvals, webhooks."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dingrelay_chaos.receiver import WebhookRequest
from dingrelay_chaos.subscribers import QUEUE
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.report_types import EventReport

if TYPE_CHECKING:
    from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class SystemState:
    """A snapshot at the end of a run.

    Attributes:
        events: all that happened at DingTalk, the oldest first.
        approvals: rows of the table.
        tasks: approval → rows of its tasks.
        notices: all that some endpoint takes, in their order; no tests.
        changes: what the directory found out about people since the first walk, and when it began to
            look (`opened_at`): one a run and person, with all that the run found out.
        endpoints: id → row.
        given_up: endpoint → notices that it was not delivered, for which it is tried for three days.
        requests: what the receiver got.
        published: what was published to Celery: id and document.
        dead: id, kind and error of the jobs that are dead or unknown.
        followers: approval → state of the job that follows it.
    """

    events: list[EventReport] = field(default_factory=list[EventReport])
    approvals: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    notices: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    given_up: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    requests: list[WebhookRequest] = field(default_factory=list[WebhookRequest])
    published: list[tuple[str, dict[str, Any]]] = field(
        default_factory=list[tuple[str, dict[str, Any]]]
    )
    dead: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    followers: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls, system: "System") -> "SystemState":
        """As of now."""
        sql = system.database
        tasks: dict[str, list[dict[str, Any]]] = {}
        for row in sql.rows("select * from approval_tasks"):
            tasks.setdefault(row["instance"], []).append(row)
        approvals = {row["instance"]: row for row in sql.rows("select * from approvals")}
        given_up: dict[str, list[int]] = {}
        for row in sql.rows("select * from webhook_deliveries where state = 'dead'"):
            given_up.setdefault(row["endpoint"], []).append(row["notice"])
        return cls(
            events=system.sandbox.events(),
            approvals=approvals,
            tasks=tasks,
            notices=[
                {**row, "data": json.loads(row["data"])}
                for row in sql.rows(
                    "select * from notices where type <> 'webhook.test' order by number"
                )
            ],
            changes=sql.rows(
                "select changes.*, runs.opened_at from changes join runs using (number)"
                " where number > ?",
                system.walked,
            ),
            endpoints={row["id"]: row for row in sql.rows("select * from webhook_endpoints")},
            given_up=given_up,
            requests=list(system.receiver.requests),
            published=_published(system),
            dead=_dead(system),
            followers=_followers(system, approvals),
        )


def _published(system: "System") -> list[tuple[str, dict[str, Any]]]:
    """The messages in the queue of the endpoint of Celery's, as anybody's worker would read them."""
    with system.valkey.connect() as redis:
        raw = cast("list[bytes]", redis.lrange(QUEUE, 0, -1))
    found: list[tuple[str, dict[str, Any]]] = []
    for each in raw:
        message = json.loads(each)
        _, arguments, _ = json.loads(base64.b64decode(message["body"]))
        found.append((arguments["webhook_id"], arguments["document"]))
    return found


def _dead(system: "System") -> list[tuple[str, str, str]]:
    """Id, kind and error of each job that is dead or unknown."""
    with system.valkey.connect() as redis:
        jobs = cast("list[bytes]", redis.zrange(keys.DEAD, 0, -1))
        found: list[tuple[str, str, str]] = []
        for job in jobs:
            pair = cast("list[bytes | None]", redis.hmget(keys.job(job.decode()), "kind", "error"))
            kind, error = ((each or b"").decode() for each in pair)
            found.append((job.decode(), kind, error))
        return found


def _followers(system: "System", approvals: Iterable[str]) -> dict[str, str]:
    with system.valkey.connect() as redis:
        found: dict[str, str] = {}
        for instance in approvals:
            job = record.keyed_id("default", "approval-follow", instance)
            state = cast("bytes | None", redis.hget(keys.job(job), "state"))
            found[instance] = (state or b"").decode()
        return found
