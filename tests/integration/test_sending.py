"""A job is accepted by one body, through whichever door it comes."""

from collections.abc import Callable

import pytest
from redis import Redis

from dingrelay_producers import Client
from dingrelay_producers.store import keys as redis_keys
from dingrelay_tasks.contract import ContractError
from support.command_line import Cli
from support.databases import prepare
from support.gateways import GatewayClient
from support.jobs import message

BODY = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "hi"}}}
LINES = {"Content_Type": "application/x-ndjson"}


def test_jobs_are_counted_one_by_one_and_in_lines(
    gateway: GatewayClient, keys: dict[str, str]
) -> None:
    assert gateway.ask("POST", "/v1/messages", BODY, key=keys["all"]).status == 202
    line = b'{"to": {"users": ["u%d"]}, "message": {"msgtype": "text", "text": {"content": "%d"}}}'
    lines = b"\n".join(line % (number, number) for number in range(3))
    answer = gateway.ask("POST", "/v1/jobs", lines, key=keys["all"], **LINES)
    assert answer.content.count(b'"id"') == 3
    counted = 'dingrelay_gateway_jobs_total{kind="message-send",lane="normal"} 4.0'
    assert counted in gateway.metrics()


def test_each_door_refuses_an_app_that_no_worker_serves_in_the_same_words(
    gateway: GatewayClient, keys: dict[str, str], client: Client, cli: Cli, store: Redis
) -> None:
    store.hset(redis_keys.SERVED, "app:hr", "1")
    store.expire(redis_keys.SERVED, 60)
    refusal = "no worker serves hrr; did you mean hr?"
    sends: list[Callable[[], object]] = [
        lambda: client.send(message(app="hrr")),
        lambda: client.send_many([message(app="hr"), message(app="hrr")]),
        lambda: client.check(message(app="hrr")),
        lambda: client.approval("i1", app="hrr").comment(user="u1", text="hurry"),
    ]
    for send in sends:
        with pytest.raises(ContractError, match=f"app: {refusal.replace('?', '.')}"):
            send()
    assert refusal in cli("send", "--to", "u1", "--text", "hi", "--app", "hrr").output
    one = gateway.ask("POST", "/v1/messages", {**BODY, "app": "hrr"}, key=keys["all"])
    comment = {"app": "hrr", "user": "u1", "text": "hurry"}
    of_approval = gateway.ask("POST", "/v1/approvals/i1/comment", comment, key=keys["all"])
    line = b'{"app": "hrr", "to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "hi"}}}'
    lines = gateway.ask("POST", "/v1/jobs", line, key=keys["all"], **LINES)
    for problem in (one.json, of_approval.json, lines.json["error"]):
        (error,) = problem["errors"]
        assert (error["pointer"], error["detail"]) == ("/app", refusal)
    assert not store.exists(redis_keys.RECENT)


def test_an_erasure_needs_no_worker_of_an_app(client: Client, store: Redis) -> None:
    prepare(client.settings.database)
    store.hset(redis_keys.SERVED, "app:hr", "1")
    store.expire(redis_keys.SERVED, 60)
    client.send(message("u1", app="hr"))
    erasure = client.erase_person("u1")
    assert client.status(erasure.job).kind == "person-erase"
