"""The client against a real Valkey: what is accepted, and what is refused before it is."""

import json
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from redis import Redis

from dingrelay_producers import (
    Client,
    IdempotencyConflict,
    JobNotFound,
    JobRef,
    Settings,
    State,
)
from dingrelay_producers.redis_address import OPTIONS
from dingrelay_producers.store import keys
from dingrelay_tasks import ApprovalCreate, ContractError, MessageSend, UserSync
from support.jobs import message

QUEUE = "dingrelay.normal"


def test_every_option_that_a_url_may_have_is_taken(valkey_url: str, store: Redis) -> None:
    values = {"client_name": "orders", "health_check_interval": "5", "max_connections": "7"}
    values |= {"socket_keepalive": "yes", "socket_read_size": "4096"}
    values |= dict.fromkeys(("socket_connect_timeout", "socket_timeout"), "1.5")
    assert values.keys() == OPTIONS
    settings = Settings.load(env="test", redis_url=f"{valkey_url}?{urlencode(values)}")
    with Client(settings) as client:
        assert client.send(message()).status().state is State.QUEUED
        assert "orders" in {each["name"] for each in store.client_list()}


def test_a_job_is_accepted_and_published_by_name(client: Client, store: Redis) -> None:
    job = client.send(message())
    status = job.status()
    assert (status.state, status.kind, status.attempts) == (State.QUEUED, "message-send", 0)
    [raw] = store.lrange(QUEUE, 0, -1)
    envelope = json.loads(raw)
    assert envelope["headers"]["task"] == "dingrelay.message-send"
    assert envelope["headers"]["id"] == job.id
    assert "你好" not in envelope["headers"]["kwargsrepr"]
    assert envelope["content-type"] == "application/json"


def test_each_lane_and_kind_has_its_queue(client: Client, store: Redis) -> None:
    client.send(message(lane="urgent"))
    client.send(message(lane="bulk"))
    client.send(UserSync())
    lengths = {name: store.llen(f"dingrelay.{name}") for name in ("urgent", "bulk", "directory")}
    assert lengths == {"urgent": 1, "bulk": 1, "directory": 1}


def test_a_bad_job_is_refused_where_it_is_made(client: Client, store: Redis) -> None:
    with pytest.raises(ContractError) as caught:
        client.send(MessageSend.parse({"to": {"users": []}, "message": {"msgtype": "text"}}))
    assert caught.value.field
    assert store.dbsize() == 0


def test_the_same_key_is_the_same_job(client: Client, store: Redis) -> None:
    first = client.send(message(idempotency_key="order-1"))
    again = client.send(message(idempotency_key="order-1", sender="shop"))
    assert first == again
    assert store.llen(QUEUE) == 1
    with pytest.raises(IdempotencyConflict, match="idempotency_key"):
        client.send(message(text="another text", idempotency_key="order-1"))


def test_a_job_for_later_is_on_the_schedule_only(client: Client, store: Redis) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    status = client.send(message(send_at=later.isoformat())).status()
    assert status.state == State.QUEUED
    assert status.due_at
    assert abs((status.due_at - later).total_seconds()) < 0.01
    assert store.llen(QUEUE) == 0


def test_many_jobs_are_streamed(client: Client, store: Redis) -> None:
    made: list[int] = []

    def jobs() -> Iterator[MessageSend]:
        for number in range(1_201):
            made.append(number)
            # At most two batches are ahead of what is accepted: memory stays constant.
            assert number - store.zcard(keys.woken(QUEUE)) <= 1_000
            yield message(text=f"text {number}")

    refs: list[JobRef] = []
    assert client.send_many(jobs(), on_sent=refs.append) == 1_201
    assert len({ref.id for ref in refs}) == 1_201
    assert store.llen(QUEUE) == 1_201


def test_of_many_jobs_those_behind_a_conflict_are_reported(client: Client, store: Redis) -> None:
    client.send(message(idempotency_key="taken"))
    keyed = [message(text=text, idempotency_key=text) for text in ("a", "b", "c", "d")]
    refs: list[JobRef] = []
    keyed[1] = message(text="another text", idempotency_key="taken")
    with pytest.raises(IdempotencyConflict) as conflict:
        client.send_many(keyed, on_sent=refs.append)
    assert conflict.value.place == 1
    assert [ref.id for ref in refs] == [client.send(keyed[place]).id for place in (0, 2, 3)]
    assert store.llen(QUEUE) == 4


def test_scripts_that_redis_forgets_are_taught_again(client: Client, store: Redis) -> None:
    client.send(message())
    store.script_flush()
    # More than one call of the script carries.
    assert client.send_many(message(text=f"text {number}") for number in range(120)) == 120
    assert store.llen(QUEUE) == 121


def test_equal_messages_of_a_batch_are_one_job(client: Client, store: Redis) -> None:
    jobs = [message(to={"users": [f"u{number}"]}) for number in range(250)]
    jobs.insert(120, message(text="another text"))
    refs: list[JobRef] = []
    assert client.send_many(jobs, on_sent=refs.append) == 251
    ids = [ref.id for ref in refs]
    assert len(ids) == 251
    assert len(set(ids)) == store.llen(QUEUE) == 4
    assert len(set(ids[:100])) == 1
    assert ids[120] not in ids[:120] + ids[121:]
    assert refs[249].status().state == State.QUEUED


def test_a_conflict_names_its_job_and_keeps_the_others(client: Client, store: Redis) -> None:
    client.send(message(text="first", idempotency_key="k"))
    jobs = [message(text="a"), message(text="other", idempotency_key="k"), message(text="b")]
    with pytest.raises(IdempotencyConflict):
        client.send_many(jobs)
    assert store.llen(QUEUE) == 3


def test_the_settings_name_the_default_sender(settings: Settings, store: Redis) -> None:
    with Client(settings.model_copy(update={"sender": "hr"})) as client:
        refs = [client.send(message()), client.send(message(sender="payroll"))]
        client.send_many([message()], on_sent=refs.append)
    payloads = [json.loads(store.hget(f"dingrelay:job:{ref.id}", "payload") or "") for ref in refs]
    assert [payload["sender"] for payload in payloads] == ["hr", "payroll", "hr"]


def test_a_job_that_is_not_there_is_reported_so(client: Client) -> None:
    for use in (client.status, client.cancel, client.requeue):
        with pytest.raises(JobNotFound, match="no-such-job"):
            use("no-such-job")
    assert not client.discard("no-such-job")


def test_a_job_is_accepted_even_if_it_can_not_be_published(valkey_url: str) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, broker_url="redis://127.0.0.1:1/0")
    with Client(settings) as client:
        assert client.send(message()).status().state == State.QUEUED


def test_a_broker_that_is_silent_costs_its_time_out_once(valkey_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with Client(Settings.load(env="test", redis_url=valkey_url, broker_url=url)) as client:
            assert client.send(message(text="first")).status().state == State.QUEUED
            connections = accepted(silent)
            assert connections > 0
            assert client.send(message(text="second")).status().state == State.QUEUED
            assert accepted(silent) == 0, "it was asked again"


def accepted(server: socket.socket) -> int:
    """How many connections to a server that never answers were made."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_threads_share_a_client(client: Client, store: Redis) -> None:
    def send() -> None:
        for _ in range(20):
            client.send(message())

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.llen(QUEUE) == 160


def _send_in_child(client: Client) -> None:
    client.send(message(text="from the child"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_client_can_be_used_after_a_fork(client: Client, store: Redis) -> None:
    client.send(message(text="from the parent"))
    child = multiprocessing.get_context("fork").Process(target=_send_in_child, args=(client,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    client.send(message(text="from the parent again"))
    assert store.llen(QUEUE) == 3


def test_a_job_that_is_too_large_is_not_accepted(client: Client, store: Redis) -> None:
    form = {f"f{number}": "中" * 60_000 for number in range(8)}
    job = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": form})
    with pytest.raises(ContractError, match=r"form: the job is 1\.4 MB"):
        client.send(job)
    with pytest.raises(ContractError):
        client.send_many([message(text="fits"), job])
    assert store.keys("dingrelay:job:*") == []
