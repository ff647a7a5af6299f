"""The job commands against a real Valkey; no worker runs unless a test plays one."""

import errno
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from dingrelay_producers import Client, JobRef, JobStatus, ServiceUnavailable, State
from dingrelay_producers.cli import jobs_file, output
from dingrelay_producers.client import job_list
from dingrelay_producers.store import keys
from support.command_line import ERROR, Cli, end
from support.servers import free_port

JOB_FIELDS = {
    *("id", "kind", "app", "lane", "state", "attempts", "throttles"),
    *("created_at", "started_at", "settled_at", "due_at", "result", "error"),
}
MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "a"}}}


def payload(redis: Redis, job_id: str) -> dict[str, Any]:
    """The contract in a job's record."""
    raw = redis.hget(keys.job(job_id), "payload")
    content: dict[str, Any] = json.loads(raw or "{}")
    return content


def test_a_message_is_what_the_options_say(cli: Cli, store: Redis) -> None:
    at = datetime.now(UTC) + timedelta(hours=2)
    sent = cli.json(
        *("send", "--to", "u1,u2", "--to", "u3", "--department", "5", "--markdown", "题", "# 文"),
        *("--lane", "urgent", "--at", at.isoformat(), "--expires", "+1d", "--allow-duplicate"),
        *("--confirm", "--on-unknown", "stop"),
    )
    assert sent.keys() == JOB_FIELDS
    assert (sent["kind"], sent["lane"], sent["state"]) == ("message-send", "urgent", "queued")
    job = payload(store, sent["id"])
    assert job["to"] == {"users": ["u1", "u2", "u3"], "departments": [5]}
    assert job["message"] == {"msgtype": "markdown", "markdown": {"title": "题", "text": "# 文"}}
    assert (job["allow_duplicate"], job["confirm"], job["on_unknown"]) == (True, True, "stop")
    assert datetime.fromisoformat(job["send_at"]) == at
    assert datetime.fromisoformat(sent["due_at"]) - at < timedelta(seconds=1)


def test_a_message_of_a_robot_is_what_the_options_say(cli: Cli, store: Redis) -> None:
    post = ("send", "--to", "robot=assistant,u1", "--text", "好")
    sent = cli.json(*post, "--to", "u2", "--lane", "urgent", "--confirm")
    assert (sent["kind"], sent["lane"]) == ("robot-message", "urgent")
    job = payload(store, sent["id"])
    assert (job["to"], job["confirm"]) == ({"robot": "assistant", "users": ["u1", "u2"]}, True)
    for option in ("--everyone", "--allow-duplicate", "--app=hr", "--to=group=a"):
        assert cli.refused(*post, option)


def test_a_call_is_what_the_options_say(cli: Cli, store: Redis) -> None:
    sent = cli.json(
        *("call", "put", "/v1.0/todo/x?a=b%3Dc&access_token=stolen"),
        *("--body", '{"n": [1]}', "--effect", "once", "--lane", "bulk", "--key", "k"),
    )
    assert (sent["kind"], sent["lane"], sent["state"]) == ("api-call", "bulk", "queued")
    assert payload(store, sent["id"]) == {
        "lane": "bulk",
        "idempotency_key": "k",
        "method": "PUT",
        "path": "/v1.0/todo/x",
        "query": {"a": "b=c"},
        "body": {"n": [1]},
        "effect": "once",
    }


def test_a_call_that_is_wrong(cli: Cli) -> None:
    for arguments, error in (
        (["POST", "https://evil.example/x"], "/PATH: must be a path"),
        (["TRACE", "/x"], "METHOD: "),
        (["POST", "/x", "--body", "{"], "is not JSON"),
    ):
        assert error in cli.refused("call", *arguments)


def test_any_message_comes_as_json(cli: Cli, store: Redis, tmp_path: Path) -> None:
    message = {"msgtype": "image", "image": {"media_id": "@abc"}}
    (tmp_path / "message.json").write_text(json.dumps(message))
    sent = cli.json("send", "--everyone", "--message", "@message.json")
    job = payload(store, sent["id"])
    assert (job["to"], job["message"]) == ({"everyone": True}, message)


def test_the_id_is_printed(cli: Cli, store: Redis) -> None:
    result = cli("send", "--to", "u1", "--text", "[red]私密[/red]")
    _, job_id, *_ = result.stdout.split()
    assert payload(store, job_id)["message"]["text"]["content"] == "[red]私密[/red]"
    assert "私密" not in result.output


def test_a_key_never_makes_a_second_job(cli: Cli) -> None:
    first = cli.json("send", "--to", "u1", "--text", "a", "--key", "k")
    assert cli.json("send", "--to", "u1", "--text", "a", "--key", "k")["id"] == first["id"]
    other = cli.refused("send", "--to", "u1", "--text", "b", "--key", "k")
    assert other.startswith("idempotency_key: already used by job")


def test_sync_and_approve_are_what_the_options_say(cli: Cli, store: Redis) -> None:
    sync = cli.json("sync", "department", "5")
    assert payload(store, sync["id"]) == {"scope": "department", "department": 5}
    assert payload(store, cli.json("sync", "user", "u1")["id"])["user"] == "u1"
    assert payload(store, cli.json("sync", "--confirm-removals")["id"]) == {
        "confirm_removals": True
    }
    approval = cli.json(
        *("approval", "create", "PROC-1", "--originator", "u1", "--field", "事由=出差=北京"),
        *("--form", '{"天数": 3}', "--approver", "OR:u2,u3", "--approver", "NONE:u4"),
        *("--cc", "u5", "--cc-position", "FINISH"),
    )
    job = payload(store, approval["id"])
    assert job["form"] == [{"name": "天数", "value": "3"}, {"name": "事由", "value": "出差=北京"}]
    assert job["approvers"] == [
        {"action": "OR", "users": ["u2", "u3"]},
        {"action": "NONE", "users": ["u4"]},
    ]
    assert (job["cc"], job["cc_position"]) == (["u5"], "FINISH")


@pytest.mark.parametrize(
    ("state", "code"), [(State.DONE, 0), (State.DEAD, 1), (State.UNKNOWN, 1), (State.CANCELLED, 1)]
)
def test_the_exit_code_is_the_state(cli: Cli, store: Redis, state: State, code: int) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a", "--key", "k")["id"]
    end(store, job_id, state)
    again = cli("send", "--to", "u1", "--text", "a", "--key", "k", "--wait", "--json")
    assert (again.exit_code, json.loads(again.stdout)["state"]) == (code, state)
    assert cli("job", "show", job_id, "--wait").exit_code == code
    assert cli("job", "show", job_id).exit_code == 0


def test_a_job_that_has_not_ended_in_time_is_not_done(cli: Cli) -> None:
    send = ("--wait", "--timeout", "0.1")
    first, then = cli.refused("send", "--to", "u1", "--text", "a", *send, code=4).splitlines()
    job_id = first.removeprefix("accepted ")
    assert then == (
        f"job {job_id} is queued after 0.1 s. It goes on: look at it with `dingrelay job show {job_id}`, "
        f"or `dingrelay job cancel {job_id}`; `dingrelay doctor` checks whether workers run"
    )
    assert cli.refused("send", "--jobs", "-", *send, stdin=json.dumps(MESSAGE), code=4)


def test_ctrl_c_shows_that_the_job_goes_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(ref: JobRef, timeout: float) -> JobStatus:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobRef, "wait", pressed)
    assert "It goes on" in cli.refused("send", "--to", "u1", "--text", "a", "--wait", code=130)


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "utf-8"])
def test_json_is_whole_on_every_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    value = {"name": "张三 ✓ 😀"}
    output.print_json(value)
    printed.flush()
    buffer = printed.buffer
    assert isinstance(buffer, io.BytesIO)
    assert json.loads(buffer.getvalue().decode(encoding)) == value


def test_a_dead_job_says_why_and_what_to_do(cli: Cli, store: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    end(store, job_id, State.DEAD)
    shown = cli.shown("job", "show", job_id)
    assert ("permission 60011: [no] permission" in shown, "Ask." in shown) == (True, True)
    assert cli.json("job", "show", job_id)["error"] == ERROR
    assert "60011 [no] permission" in cli("job", "list", "--state", "dead").stdout


def test_a_dead_job_is_listed_after_any_number_of_others(cli: Cli, store: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    end(store, job_id, State.DEAD)
    store.delete(keys.RECENT)
    assert cli.json("job", "list") == []
    assert [job["id"] for job in cli.json("job", "list", "--state", "dead")] == [job_id]
    assert cli.json("job", "list", "--state", "unknown") == []


def test_json_may_be_asked_for_anywhere(cli: Cli) -> None:
    for command in (("--json", "job", "list"), ("job", "list", "--json")):
        assert cli(*command).stdout == "[]\n"
    assert cli("job", "list").stdout == ""


def test_lists_can_be_narrowed(cli: Cli, store: Redis) -> None:
    done = cli.json("send", "--to", "u1", "--text", "a")["id"]
    end(store, done, State.DONE)
    waiting = cli.json("sync")["id"]
    assert [job["id"] for job in cli.json("job", "list")] == [waiting, done]
    assert [job["id"] for job in cli.json("job", "list", "-n", "1")] == [waiting]
    assert [job["id"] for job in cli.json("job", "list", "--state", "done")] == [done]
    assert [job["id"] for job in cli.json("job", "list", "--kind", "user-sync")] == [waiting]
    assert cli.json("job", "list", "--kind", "fax") == []
    assert {done, waiting} <= set(cli("job", "list").stdout.split())


def test_only_a_job_that_waits_is_cancelled(cli: Cli, store: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "a")["id"]
    for _ in range(2):
        assert cli.json("job", "cancel", job_id)["state"] == "cancelled"
    store.hset(keys.job(job_id), "state", State.RUNNING)
    assert "It runs" in cli.refused("job", "cancel", job_id, code=1)
    end(store, job_id, State.DONE)
    assert cli.json("job", "cancel", job_id, code=1)["state"] == "done"
    assert "the job has ended: it is done" in cli.refused("job", "cancel", job_id, code=1)


def test_an_id_of_no_job_is_a_wrong_argument(cli: Cli) -> None:
    for verb in ("show", "cancel", "requeue"):
        refused = cli.refused("job", verb, "stranger")
        assert refused == "no job stranger: a wrong id, or its record has expired\n"


def test_dead_jobs_are_requeued_by_id_or_all(cli: Cli, store: Redis) -> None:
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "abcd"]
    for job_id in ids[:3]:
        end(store, job_id, State.DEAD)
    assert cli.json("job", "requeue", ids[0]) == {"requeued": [ids[0]], "left": []}
    assert cli.json("dead", "requeue", ids[3], code=1) == {"requeued": [], "left": [ids[3]]}
    assert cli.json("job", "requeue", "--all", "--code", "88") == {"requeued": [], "left": []}
    again = cli.json("job", "requeue", "--all", "--code", "60011")
    assert set(again["requeued"]) == set(ids[1:3])
    assert cli.json("job", "list", "--state", "dead") == []
    assert {job["state"] for job in cli.json("job", "list")} == {"queued"}


def test_all_means_those_far_behind_the_latest_and_leaves_out_what_cannot_be_read(
    cli: Cli, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MOST_LOOKED_AT", 2)
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "abcdef"]
    for job_id in ids:
        end(store, job_id, State.DEAD)
    store.hset(keys.job(ids[4]), "state", "of another release")
    again = cli("job", "requeue", "--all", "--code", "60011", "--json")
    assert (again.exit_code, f"job {ids[4]}: state" in again.stderr) == (0, True)
    assert set(json.loads(again.stdout)["requeued"]) == {*ids} - {ids[4]}


def test_a_missing_job_keeps_no_other_from_being_requeued(cli: Cli, store: Redis) -> None:
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "ab"]
    for job_id in ids:
        end(store, job_id, State.DEAD)
    result = cli("job", "requeue", ids[0], "stranger", ids[1], "--json")
    assert json.loads(result.stdout) == {"requeued": ids, "left": ["stranger"]}
    assert result.stderr == "no job stranger: a wrong id, or its record has expired\n"
    assert result.exit_code != 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServiceUnavailable])
def test_what_ends_a_request_before_its_answer_says_that_its_lines_may_be_accepted(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def cut_off(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(Client, "send_many", cut_off)
    result = cli("send", "--jobs", "-", stdin=a_line("j", "a") + a_line("k", "b"))
    assert "--from 1 (lines up to 2 may be accepted already" in " ".join(result.stderr.split())


def test_json_that_is_too_deep_is_no_json(cli: Cli) -> None:
    deep = "[" * 100_000
    refused = cli.refused("send", "--jobs", "-", stdin=deep + "\n")
    assert "line 1: is not JSON" in " ".join(refused.split())
    refused = cli.refused("call", "POST", "/topapi/x/create", "--body", "@-", stdin=deep)
    assert "is not JSON: a number or a depth out of bounds" in " ".join(refused.split())


def test_discarded_jobs_are_gone(cli: Cli, store: Redis) -> None:
    ids = [cli.json("send", "--to", "u1", "--text", text)["id"] for text in "abc"]
    for job_id in ids[::2]:
        end(store, job_id, State.DEAD)
    found = cli.json("job", "discard", *ids[:2], code=1)
    assert found == {"discarded": [ids[0]], "left": [ids[1]]}
    assert cli.refused("job", "show", ids[0])
    assert cli.json("job", "discard", "--all", "--code", "88")["discarded"] == []
    assert cli.json("job", "discard", "--all", "--code", "60011")["discarded"] == [ids[2]]


def test_jobs_stream_from_lines(cli: Cli, store: Redis) -> None:
    sync = {"kind": "user-sync", "scope": "user", "user": "u1"}
    lines = ["\ufeff" + json.dumps(MESSAGE), "", json.dumps(sync)]
    sent = cli("send", "--jobs", "-", "--json", stdin="\n".join(lines))
    assert (sent.exit_code, sent.stderr) == (0, "2 jobs accepted\n")
    ids = [json.loads(line)["id"] for line in sent.stdout.splitlines()]
    assert payload(store, ids[0]) == MESSAGE
    assert payload(store, ids[1]) == {"scope": "user", "user": "u1"}


def test_a_wrong_line_is_named_with_what_was_accepted(cli: Cli) -> None:
    kinds = "kind: must be one of"
    for line, error in (
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"kind": "fax"}', f"{kinds} api-call, approval-create, message-send"),
        ('{"kind": "user-sync-department"}', kinds),
        ('{"kind": "user-sync", "scope": "moon"}', "scope: "),
    ):
        stream = '{"kind": "user-sync"}\n' * 500 + line + "\n"
        refused = cli.refused("send", "--jobs", "-", stdin=stream)
        accepted = "500 jobs accepted; to go on, give --from 501\n"
        assert refused.startswith(f"{accepted}line 501: {error}")


def test_a_file_that_is_not_utf8_is_refused(cli: Cli, tmp_path: Path) -> None:
    good = b'{"kind": "user-sync"}\n'
    (tmp_path / "jobs").write_bytes(b"\xef\xbb\xbf" + good * 3 + b"\xff\xfe\n" + good)
    accepted = "3 jobs accepted; to go on, give --from 4\n"
    assert cli.refused("send", "--jobs", "jobs").startswith(f"{accepted}line 4: is not UTF-8")
    assert cli("send", "--jobs", "jobs", "--from", "5").stderr == "1 job accepted\n"


def test_a_line_that_does_not_end_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_file, "LONGEST", 1_000)
    stream = '{"kind": "user-sync"}\n' + " " * 1_000
    refused = cli.refused("send", "--jobs", "-", stdin=stream)
    assert "line 2: is longer than 1,000 bytes" in refused


def test_options_hold_for_lines_that_do_not_say_otherwise(cli: Cli, store: Redis) -> None:
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    lines = [MESSAGE, {**MESSAGE, "lane": "urgent", "send_at": "2036-01-01T00:00:00+00:00"}]
    sent = cli(
        *("send", "--jobs", "-", "--json", "--at", tomorrow.isoformat(), "--expires", "+5000d"),
        *("--lane", "bulk", "--sender", "hr", "--confirm", "--allow-duplicate"),
        *("--on-unknown", "stop"),
        stdin="\n".join(map(json.dumps, lines)),
    )
    assert sent.exit_code == 0, sent.stderr
    jobs = [payload(store, json.loads(line)["id"]) for line in sent.stdout.splitlines()]
    assert [job["lane"] for job in jobs] == ["bulk", "urgent"]
    moments = [datetime.fromisoformat(job["send_at"]) for job in jobs]
    assert moments == [tomorrow, datetime(2036, 1, 1, tzinfo=UTC)]
    for job in jobs:
        assert (job["sender"], job["on_unknown"]) == ("hr", "stop")
        assert (job["confirm"], job["allow_duplicate"]) == (True, True)
        assert "expires_at" in job


def test_options_unfit_for_lines_are_refused(cli: Cli) -> None:
    stream = json.dumps(MESSAGE) + '\n{"kind": "user-sync"}\n'
    for options, error in (
        (["--key", "k"], "--key: each line has its own"),
        (["--at", "+1h"], "line 2: send_at: user-sync has no such field, so --at can't give it"),
        (["--lane", "urgent", "--app", "no app"], "line 1: app: "),
    ):
        refused = cli.refused("send", "--jobs", "-", *options, stdin=stream)
        assert error in " ".join(refused.split())


def a_line(key: str, text: str) -> str:
    message = {"msgtype": "text", "text": {"content": text}}
    return json.dumps({**MESSAGE, "idempotency_key": key, "message": message}) + "\n"


def test_a_key_of_another_job_shows_which_lines_are_accepted(cli: Cli) -> None:
    cli("send", "--jobs", "-", stdin=a_line("k", "a"))
    stream = a_line("j", "a") + a_line("k", "b") + a_line("l", "a")
    progress, error, *_ = cli.refused("send", "--jobs", "-", stdin=stream).splitlines()
    assert progress == "2 jobs accepted; to go on, give --from 4"
    assert error.startswith("line 2: idempotency_key: already used by job")


def test_unread_ids_do_not_stop_the_stream(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(value: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "gone")

    monkeypatch.setattr(jobs_file, "print_json", gone)
    result = cli("send", "--jobs", "-", "--json", stdin='{"kind": "user-sync"}\n' * 3)
    assert result.stderr == "3 jobs accepted; to go on, give --from 4\n"


def test_a_line_leaves_when_it_is_read() -> None:
    # A pipe that stays open, as the end of a log or of another program.
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as lines, os.fdopen(writing, "wb", buffering=0) as pipe:
        arrived = jobs_file.batches(lines, 1, 500)
        for number in (1, 2):
            pipe.write(b"{}\n")
            assert [line for line, _ in next(arrived)] == [number]


def test_waiting_for_a_stream_counts_how_jobs_ended(cli: Cli, store: Redis) -> None:
    stream = "".join(a_line(text, text) for text in "abc")
    sent = cli("send", "--jobs", "-", "--json", stdin=stream)
    ids = [json.loads(output)["id"] for output in sent.stdout.splitlines()]
    for job_id in ids:
        end(store, job_id, State.DONE)
    assert cli("send", "--jobs", "-", "--wait", stdin=stream).exit_code == 0
    end(store, ids[0], State.DEAD)
    mixed = cli.refused("send", "--jobs", "-", "--wait", stdin=stream, code=1)
    assert mixed.endswith("1 dead, 2 done\n")


def test_a_redis_that_is_away_cannot_be_reached(cli: Cli) -> None:
    address = f"127.0.0.1:{free_port()}"
    cli.variables["DINGRELAY_REDIS_URL"] = f"redis://:geheim@{address}/0"
    for command in (
        ["send", "--to", "u1", "--text", "a"],
        ["job", "list"],
        ["job", "list", "--state", "dead"],
        ["limits"],
    ):
        refused = cli(*command)
        says = f"DINGRELAY_REDIS_URL: Redis at {address} cannot be reached"
        assert (refused.exit_code, refused.stderr[: len(says)]) == (3, says)
        assert "geheim" not in refused.output


def test_a_record_of_a_release_to_come_is_one_line(cli: Cli, store: Redis) -> None:
    job_id = cli.json("send", "--to", "u1", "--text", "hello")["id"]
    store.hset(keys.job(job_id), "state", "paused")
    other = cli.json("send", "--to", "u1", "--text", "hello", "--key", "k")["id"]
    says = f"job {job_id}: state in its record is"
    for command in (["show", job_id], ["show", job_id, "--wait"], ["cancel", job_id]):
        assert cli.refused("job", *command, code=3).startswith(says)
    listed = cli("job", "list")
    assert (listed.exit_code, other in listed.stdout) == (0, True)
    assert listed.stderr.startswith(says)
