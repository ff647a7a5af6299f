"""The job commands against a real Valkey; no worker runs unless a test plays one."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cli_runner import Cli, in_folder
from dingrelay_producers import State
from dingrelay_producers.store import keys

JOB_FIELDS = {
    *("id", "kind", "app", "lane", "state", "attempts", "throttles"),
    *("created_at", "started_at", "settled_at", "due_at", "result", "error"),
}
ERROR = {"class": "permission", "code": "60011", "message": "[no] permission", "hint": "Ask."}


@pytest.fixture
def cli(valkey_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    variables = {"DINGRELAY_ENV": "sandbox", "DINGRELAY_REDIS_URL": valkey_url}
    return in_folder(monkeypatch, tmp_path, variables)


@pytest.fixture
def records(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


def payload(redis: Redis, job_id: str) -> dict[str, Any]:
    """The contract in a job's record."""
    raw = redis.hget(keys.job(job_id), "payload")
    content: dict[str, Any] = json.loads(raw or "{}")
    return content


def end(redis: Redis, job_id: str, state: State) -> None:
    """Settle a job as a worker does."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    fields: dict[bytes | bytearray | memoryview | str | float, Any] = {
        "state": state,
        "settled": now,
        "attempts": 1,
    }
    if state in {State.DEAD, State.UNKNOWN}:
        fields["error"] = json.dumps(ERROR)
        redis.zadd(keys.DEAD, {job_id: now})
        redis.pexpire(keys.DEAD, 60_000)
    redis.hset(keys.job(job_id), mapping=fields)
    redis.zrem(keys.SCHEDULE, job_id)


def test_a_message_is_what_the_options_say(cli: Cli, records: Redis) -> None:
    at = datetime.now(UTC) + timedelta(hours=2)
    sent = cli.json(
        *("send", "--to", "u1,u2", "--to", "u3", "--department", "5", "--markdown", "题", "# 文"),
        *("--lane", "urgent", "--at", at.isoformat(), "--expires", "+1d", "--allow-duplicate"),
        *("--confirm", "--on-unknown", "stop"),
    )
    assert sent.keys() == JOB_FIELDS
    assert (sent["kind"], sent["lane"], sent["state"]) == ("message-send", "urgent", "queued")
    job = payload(records, sent["id"])
    assert job["to"] == {"users": ["u1", "u2", "u3"], "departments": [5]}
    assert job["message"] == {"msgtype": "markdown", "markdown": {"title": "题", "text": "# 文"}}
    assert (job["allow_duplicate"], job["confirm"], job["on_unknown"]) == (True, True, "stop")
    assert datetime.fromisoformat(job["send_at"]) == at
    assert datetime.fromisoformat(sent["due_at"]) - at < timedelta(seconds=1)


def test_a_call_is_what_the_options_say(cli: Cli, records: Redis) -> None:
    sent = cli.json(
        *("call", "put", "/v1.0/todo/x", "--query", "a=b=c", "--query", "access_token=stolen"),
        *("--body", '{"n": [1]}', "--effect", "once", "--lane", "bulk", "--key", "k"),
    )
    assert (sent["kind"], sent["lane"], sent["state"]) == ("api-call", "bulk", "queued")
    assert payload(records, sent["id"]) == {
        "lane": "bulk",
        "idempotency_key": "k",
        "method": "PUT",
        "path": "/v1.0/todo/x",
        "query": {"a": "b=c"},
        "body": {"n": [1]},
        "effect": "once",
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["POST", "https://evil.example/x"], "path: must be a path"),
        (["TRACE", "/x"], "method: "),
        (["POST", "/x", "--query", "a"], "is not NAME=VALUE"),
        (["POST", "/x", "--body", "{"], "is not JSON"),
    ],
)
def test_a_call_that_is_wrong(cli: Cli, arguments: list[str], told: str) -> None:
    result = cli("call", *arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_any_message_comes_as_json(cli: Cli, records: Redis, tmp_path: Path) -> None:
    message = {"msgtype": "image", "image": {"media_id": "@abc"}}
    (tmp_path / "message.json").write_text(json.dumps(message))
    sent = cli.json("send", "--everyone", "--message", "@message.json")
    job = payload(records, sent["id"])
    assert (job["to"], job["message"]) == ({"everyone": True}, message)


def test_people_are_told_the_id(cli: Cli, records: Redis) -> None:
    told = cli("send", "--to", "u1", "--text", "[red]私密[/red]")
    _, job_id, *_ = told.stdout.split()
    assert payload(records, job_id)["message"]["text"]["content"] == "[red]私密[/red]"
    assert "私密" not in told.output


def test_a_key_never_makes_a_second_job(cli: Cli) -> None:
    first = cli.json("send", "--to", "u1", "--text", "a", "--key", "k")
    assert cli.json("send", "--to", "u1", "--text", "a", "--key", "k")["id"] == first["id"]
    other = cli("send", "--to", "u1", "--text", "b", "--key", "k")
    assert other.exit_code == 2
    assert other.stderr.startswith("idempotency_key: already used by job")


def test_sync_and_approve_are_what_the_options_say(cli: Cli, records: Redis) -> None:
    sync = cli.json("sync", "department", "5")
    assert payload(records, sync["id"]) == {"scope": "department", "department": 5}
    assert payload(records, cli.json("sync", "user", "u1")["id"])["user"] == "u1"
    assert payload(records, cli.json("sync", "--confirm-removals")["id"]) == {
        "confirm_removals": True
    }
    approval = cli.json(
        *("approve", "PROC-1", "--originator", "u1", "--field", "事由=出差=北京"),
        *("--form", '{"天数": 3}', "--approver", "OR:u2,u3", "--approver", "NONE:u4"),
        *("--cc", "u5", "--cc-position", "FINISH"),
    )
    job = payload(records, approval["id"])
    assert job["form"] == [{"name": "天数", "value": "3"}, {"name": "事由", "value": "出差=北京"}]
    assert job["approvers"] == [
        {"action": "OR", "users": ["u2", "u3"]},
        {"action": "NONE", "users": ["u4"]},
    ]
    assert (job["cc"], job["cc_position"]) == (["u5"], "FINISH")


@pytest.mark.parametrize(
    ("state", "code"), [(State.DONE, 0), (State.DEAD, 1), (State.UNKNOWN, 1), (State.CANCELLED, 1)]
)
def test_the_exit_code_tells_how_a_job_ended(
    cli: Cli, records: Redis, state: State, code: int
) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a", "--key", "k")["id"]
    end(records, job_id, state)
    again = cli("send", "--to", "u1", "--text", "a", "--key", "k", "--wait", "--json")
    assert (again.exit_code, json.loads(again.stdout)["state"]) == (code, state)
    assert cli("job", "show", job_id, "--wait").exit_code == code
    assert cli("job", "show", job_id).exit_code == 0


def test_a_job_that_has_not_ended_in_time_is_not_done(cli: Cli) -> None:
    waited = cli("send", "--to", "u1", "--text", "a", "--wait", "--timeout", "0.1")
    assert waited.exit_code == 1
    assert "is queued after 0.1 s" in waited.stderr


def test_a_dead_job_says_why_and_what_to_do(cli: Cli, records: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    end(records, job_id, State.DEAD)
    for command in (("job", "show", job_id), ("dead", "show", job_id)):
        shown = cli(*command).stdout
        assert "permission 60011: [no] permission" in shown
        assert "Ask." in shown
    assert cli.json("dead", "show", job_id)["error"] == ERROR
    assert "60011 [no] permission" in cli("dead", "list").stdout


def test_lists_can_be_narrowed(cli: Cli, records: Redis) -> None:
    done = cli.json("send", "--to", "u1", "--text", "a")["id"]
    end(records, done, State.DONE)
    waiting = cli.json("sync")["id"]
    assert [job["id"] for job in cli.json("job", "list")] == [waiting, done]
    assert [job["id"] for job in cli.json("job", "list", "-n", "1")] == [waiting]
    assert [job["id"] for job in cli.json("job", "list", "--state", "done")] == [done]
    assert [job["id"] for job in cli.json("job", "list", "--kind", "user-sync")] == [waiting]
    assert cli.json("job", "list", "--kind", "fax") == []
    assert {done, waiting} <= set(cli("job", "list").stdout.split())


def test_a_job_that_waits_can_be_cancelled_once(cli: Cli) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    assert cli.json("job", "cancel", job_id)["state"] == "cancelled"
    assert cli.json("job", "cancel", job_id)["state"] == "cancelled"


def test_a_job_that_runs_or_has_ended_is_not_cancelled(cli: Cli, records: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    records.hset(keys.job(job_id), "state", State.RUNNING)
    running = cli("job", "cancel", job_id)
    assert running.exit_code == 1
    assert "It runs" in running.stderr
    end(records, job_id, State.DONE)
    assert cli.json("job", "cancel", job_id, code=1)["state"] == "done"


@pytest.mark.parametrize("command", ["job show", "job cancel", "dead show", "dead requeue"])
def test_an_id_of_no_job_is_a_wrong_argument(cli: Cli, command: str) -> None:
    refused = cli(*command.split(), "nobody")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "no job nobody: a wrong id, or its record has expired\n",
    )


def test_dead_jobs_are_requeued_by_id_or_all(cli: Cli, records: Redis) -> None:
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "abcd"]
    for job_id in ids[:3]:
        end(records, job_id, State.DEAD)
    assert cli.json("dead", "requeue", ids[0]) == {"requeued": [ids[0]], "left": []}
    assert cli.json("dead", "requeue", ids[3], code=1) == {"requeued": [], "left": [ids[3]]}
    assert cli.json("dead", "requeue", "--all", "--code", "88") == {"requeued": [], "left": []}
    again = cli.json("dead", "requeue", "--all", "--code", "60011")
    assert set(again["requeued"]) == set(ids[1:3])
    assert cli.json("dead", "list") == []
    assert {job["state"] for job in cli.json("job", "list")} == {"queued"}


def test_discarded_jobs_are_gone(cli: Cli, records: Redis) -> None:
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "ab"]
    end(records, ids[0], State.DEAD)
    assert cli.json("dead", "discard", *ids, code=1) == {"discarded": [ids[0]], "left": [ids[1]]}
    assert cli("job", "show", ids[0]).exit_code == 2


def test_jobs_stream_from_lines(cli: Cli, records: Redis) -> None:
    message = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "a"}}}
    lines = [
        "\ufeff" + json.dumps(message),
        "",
        json.dumps({"kind": "user-sync", "scope": "user", "user": "u1"}),
    ]
    sent = cli("send", "--jobs", "-", "--json", stdin="\n".join(lines))
    assert (sent.exit_code, sent.stderr) == (0, "2 jobs accepted\n")
    ids = [json.loads(line)["id"] for line in sent.stdout.splitlines()]
    assert payload(records, ids[0]) == message
    assert payload(records, ids[1]) == {"scope": "user", "user": "u1"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 501: is not JSON"),
        ("[]", "line 501: must be a JSON object"),
        (
            '{"kind": "fax"}',
            "line 501: kind: must be one of api-call, approval-create, message-send",
        ),
        ('{"kind": "user-sync-department"}', "line 501: kind: must be one of"),
        ('{"kind": "user-sync", "scope": "moon"}', "line 501: scope: "),
    ],
)
def test_a_wrong_line_is_named_and_what_was_accepted_told(cli: Cli, line: str, told: str) -> None:
    stream = '{"kind": "user-sync"}\n' * 500 + line + "\n"
    refused = cli("send", "--jobs", "-", stdin=stream)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("500 jobs accepted\n" + told)


def test_a_file_that_is_not_utf8_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(b'{"kind": "user-sync"}\n\xff\xfe\n')
    refused = cli("send", "--jobs", "jobs")
    assert refused.exit_code == 2
    assert "is not UTF-8" in refused.stderr


def test_waiting_for_a_stream_tells_how_many_ended_how(cli: Cli, records: Redis) -> None:
    line = '{"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "%s"}}, '
    line += '"idempotency_key": "%s"}\n'
    stream = "".join(line % (text, text) for text in "abc")
    sent = cli("send", "--jobs", "-", "--json", stdin=stream)
    ids = [json.loads(told)["id"] for told in sent.stdout.splitlines()]
    for job_id in ids:
        end(records, job_id, State.DONE)
    assert cli("send", "--jobs", "-", "--wait", stdin=stream).exit_code == 0
    end(records, ids[0], State.DEAD)
    mixed = cli("send", "--jobs", "-", "--wait", stdin=stream)
    assert mixed.exit_code == 1
    assert mixed.stderr.endswith("1 dead, 2 done\n")


@pytest.mark.parametrize(
    "command",
    [["send", "--to", "u1", "--text", "a"], ["job", "list"], ["dead", "list"], ["limits"]],
)
def test_a_redis_that_is_away_cannot_be_reached(cli: Cli, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    refused = cli(*command, DINGRELAY_REDIS_URL=f"redis://:geheim@127.0.0.1:{port}/0")
    assert refused.exit_code == 3
    assert refused.stderr.startswith("DINGRELAY_REDIS_URL: Redis cannot be reached")
    assert "geheim" not in refused.output


def test_a_record_of_a_release_to_come_is_one_line(cli: Cli, records: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "hello")["id"]
    records.hset(keys.job(job_id), "state", "paused")
    for command in (["show", job_id], ["show", job_id, "--wait"], ["list"], ["cancel", job_id]):
        result = cli("job", *command)
        assert result.exit_code == 3
        assert result.stderr.splitlines()[0].startswith(f"job {job_id}: state in its record is")
