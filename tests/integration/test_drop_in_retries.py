"""Equal requests at the drop-in door: when they are one job, and when another."""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from conftest import wait_until
from dingrelay_producers import current_apps
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.gateway.drop_in import job_call, robots
from support.drop_in import asking, token_of
from support.gateways import GatewayClient, body_seconds, gateway_thread

CHANGE = "/topapi/role/addrole"
OTHER = "/topapi/role/deleterole"
TODO = "/v1.0/todo/users/union/tasks/task"
READ = "/topapi/v2/user/get"
ROBOT = "/robot/send"
OPS = "token-of-the-ops-robot"
BODY = {"roleName": "值班"}
ALERT = {"msgtype": "text", "text": {"content": "磁盘 93 %"}}
MULTIPART = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="media"; filename="a"\r\n\r\nx\r\n--b--\r\n'
TEN_MINUTES = 600_000
BUSY = {"errcode": -1, "errmsg": "系统繁忙"}
ONE = ("POST", CHANGE, {"roleName": "一"})
TWO = ("POST", CHANGE, {"roleName": "二"})
DELETED = ("POST", OTHER, {"role_id": 7})


@pytest.fixture(scope="module")
def served(shared_url: str) -> Iterator[GatewayClient]:
    settings = Settings.load(
        env="sandbox",
        redis_url=shared_url,
        gateway_proxies="127.0.0.0/8",
        robots={"ops": {"webhook": f"https://oapi.dingtalk.com/robot/send?access_token={OPS}"}},
    )
    with body_seconds(0.3), gateway_thread(settings) as client:
        yield client


class Door:
    """A program at the door, and what ends its jobs as a worker does."""

    def __init__(self, gateway: GatewayClient, store: Redis, name: str = "crm") -> None:
        self.gateway = gateway
        self._ask = asking(gateway.url)
        self.token = token_of(self._ask, f"drk_{name:0<12.12}", "secret")
        self._redis = store
        self._pool = ThreadPoolExecutor(8)

    def call(
        self,
        body: Any = BODY,
        path: str = CHANGE,
        method: str = "POST",
        token: str = "",
        **query: str,
    ) -> Future[dict[str, Any]]:
        how = {"token": token or self.token, "body": body, "query": query}
        return self._pool.submit(lambda: self._ask(method, path, **how)[1])

    def upload(self) -> Future[dict[str, Any]]:
        how = {"token": self.token, "query": {"type": "file"}, "content_type": MULTIPART}
        return self._pool.submit(lambda: self._ask("POST", "/media/upload", body=FILE, **how)[1])

    def answered(self, method: str, path: str, body: Any, token: str = "") -> str:
        """The job of a call that is carried out at once and answered; empty if no job was made for it."""
        before = self.jobs()
        call = self.call(body, path, method, token)
        wait_until(lambda: call.done() or self.jobs() - before)
        made = self.jobs() - before
        for job in made:
            self.done(job)
        assert call.result()["errcode"] == 0
        return "".join(made)

    def wait_idle(self, *, but: int = 0) -> None:
        """Wait until so many requests are under way; one is, until it is noted that its answer has left."""
        line = f"dingrelay_gateway_requests_in_flight {but}.0"
        wait_until(lambda: line in self.gateway.metrics())

    def jobs(self) -> set[str]:
        return {key.decode() for key in self._redis.scan_iter("dingrelay:job:*")}

    def done(self, job: str, **answer: Any) -> None:
        self.end(job, "done", result={"answer": {"errcode": 0, **answer}})

    def busy(self, body: Any = BODY) -> None:
        """A call that is answered though its job goes on."""
        assert self.call(body).result().items() >= BUSY.items()

    def end(self, job: str, state: str, *, ago: timedelta = timedelta(), **fields: Any) -> None:
        settled = int((datetime.now(UTC) - ago).timestamp() * 1000)
        encoded = {name: json.dumps(value) for name, value in fields.items()}
        self._redis.hset(job, mapping={"state": state, "settled": settled, **encoded})

    def only_job(self, *, but: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        """The one that there is, or comes, beside those that were there."""
        wait_until(lambda: self.jobs() - but)
        (job,) = self.jobs() - but
        return job

    @property
    def entry(self) -> str:
        (entry,) = self._redis.scan_iter("dingrelay:door-request:*")
        return str(entry.decode())

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Calls that begin from now on are answered though their jobs go on."""
    return lambda: monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.3)


@pytest.fixture
def door(served: GatewayClient, store: Redis) -> Iterator[Door]:
    served.backend.keys.keys.clear()
    served.backend.keys.add("crm")
    door = Door(served, store)
    yield door
    door.close()


@pytest.mark.parametrize(
    ("calls", "jobs"),
    [
        ([ONE, TWO, ONE], 3),
        ([ONE, DELETED, ONE], 3),
        ([("PUT", TODO, {"done": n}) for n in (1, 2, 1)], 3),
        ([ONE, ONE], 1),
    ],
    ids=["A, B, A", "create, delete, create", "PUT 1, 2, 1", "the same within seconds"],
)
def test_equal_changes_are_one(door: Door, calls: list[tuple[str, str, Any]], jobs: int) -> None:
    made = [door.answered(*call) for call in calls]
    assert len(set(filter(None, made))) == jobs


def test_an_equal_change_is_another_call_seconds_after_the_answer(
    door: Door, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job_call.run_change.__kwdefaults__, "grace", 60.0)
    first = door.answered(*ONE)
    door.wait_idle()
    assert 0 < store.pttl(door.entry) <= 60_000
    store.pexpire(door.entry, 50_000)
    assert door.answered(*ONE) == ""
    door.wait_idle()
    assert store.pttl(door.entry) <= 50_000, "from the first answer on"
    store.delete(door.entry)  # their end
    assert door.answered(*ONE) not in {first, ""}


def test_three_equal_alerts_are_three(door: Door, store: Redis) -> None:
    """However fast, and each is one while it has no answer."""
    made = [door.answered("POST", ROBOT, ALERT, "robot") for _ in range(3)]
    assert len(set(made)) == 3
    assert all(made)
    both = [door.call(ALERT, ROBOT, token="robot") for _ in range(2)]
    job = door.only_job(but=set(made))
    door.wait_idle(but=2)
    door.done(job)
    assert [each.result()["errcode"] for each in both] == [0, 0]
    assert door.jobs() == {*made, job}
    wait_until(lambda: not store.keys("dingrelay:door-request:*"))


def test_an_answered_alert_is_over_though_redis_refuses_the_mark(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    ended = job_call.ChangingCall._end

    async def end(self: job_call.ChangingCall, ttl_ms: int, *, answered: bool = False) -> None:
        if answered and not refused:
            refused.append(self._name)
            raise ServiceUnavailable("READONLY")
        await ended(self, ttl_ms, answered=answered)

    monkeypatch.setattr(job_call.ChangingCall, "_end", end)
    first = door.answered("POST", ROBOT, ALERT, "robot")
    wait_until(lambda: refused)
    assert door.answered("POST", ROBOT, ALERT, "robot") not in {first, ""}


@pytest.mark.parametrize(
    ("path", "headers"), [(CHANGE, {}), (TODO, {"x-acs-dingtalk-access-token": ""}), (ROBOT, {})]
)
def test_a_returning_program_meets_its_call(door: Door, path: str, headers: dict[str, str]) -> None:
    method = "PUT" if path == TODO else "POST"
    token = "robot" if path == ROBOT else door.token
    body = json.dumps(ALERT)
    connection = http.client.HTTPConnection(door.gateway.host, door.gateway.port)
    headers = dict.fromkeys(headers, token) | {"Content-Type": "application/json"}
    connection.request(method, f"{path}?access_token={token}", body, headers)
    job = door.only_job()
    left = door.gateway.metrics().count('status="499"')
    connection.close()
    door.done(job)
    wait_until(lambda: left_clients(door) > left)
    assert door.answered(method, path, ALERT, token) == ""


def left_clients(door: Door) -> float:
    """How many did not wait for their answers."""
    lines = [line for line in door.gateway.metrics().splitlines() if 'status="499"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_total{" in line)


def test_reads_are_never_joined(door: Door, store: Redis, impatient: Callable[[], None]) -> None:
    for user in ("u1", "u1"):
        assert door.answered("POST", READ, {"userid": user})
        assert door.jobs() == set()
    impatient()
    waiting = [door.call({"userid": "u2"}, READ), door.call({"userid": "u2"}, READ)]
    wait_until(lambda: len(door.jobs()) == 2)
    # No worker takes them: they are cancelled with their requests.
    assert [each.result()["errcode"] for each in waiting] == [-1, -1]
    assert door.jobs() == set()
    left = {key.decode().split(":")[1] for key in store.keys("*") if b":" in key}
    assert not left & {"job", "door-request", "door-latest", "recent", "schedule", "tombstone"}


def test_a_cancelled_change_is_not_made_by_asking_again(
    door: Door, impatient: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient()
    door.busy()
    job = door.only_job()
    door.end(job, "cancelled")
    monkeypatch.undo()
    door.answered(*DELETED)
    refused = door.call().result()
    assert refused["errcode"] == 400_002
    assert job.rpartition(":")[2] in refused["errmsg"]
    door.end(job, "cancelled", ago=timedelta(hours=2))
    assert door.answered(*("POST", CHANGE, BODY)), "the next day's"


@pytest.mark.parametrize(
    ("method", "path", "jobs", "says"),
    [
        ("POST", CHANGE, 1, ("errcode", 15)),
        ("PUT", TODO, 2, ("code", "service.timeout")),
        ("POST", "/topapi/v2/user/update", 2, ("errcode", 15)),
    ],
)
def test_a_change_whose_answer_was_lost_is_made_again_where_that_does_no_harm(
    door: Door, store: Redis, method: str, path: str, jobs: int, says: tuple[str, Any]
) -> None:
    call = door.call(BODY, path, method)
    job = door.only_job()
    door.end(job, "unknown", ago=timedelta(minutes=11))
    lost = call.result()
    assert lost[says[0]] == says[1]
    assert job.rpartition(":")[2] in str(lost)
    again = door.call(BODY, path, method)
    wait_until(lambda: again.done() or len(door.jobs()) == 2)
    for each in door.jobs() - {job}:
        door.end(each, "dead")
    assert again.result()
    assert len(door.jobs()) == jobs
    if jobs == 1:
        assert again.result().items() >= {says[0]: says[1]}.items()
        assert store.pttl(door.entry) > TEN_MINUTES
        door.end(job, "unknown", ago=timedelta(hours=2))
        assert door.answered(method, path, BODY), "another day's"


def test_no_robot_means_no_job(door: Door, store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    store.delete(*store.keys("dingrelay:robot*"), "none")
    monkeypatch.setattr(robots, "MOST_STRANGERS", 2)
    first = door.call(ALERT, ROBOT, token="made-up")
    job = door.only_job()
    unknown = {"class": "permanent", "code": "300005", "message": "token is not exist"}
    store.zadd("dingrelay:dead", {job.rpartition(":")[2]: 1})
    door.end(job, "dead", error=unknown)
    assert first.result()["errcode"] == 300_005
    for _ in range(3):
        assert door.call(ALERT, ROBOT, token="made-up").result()["errcode"] == 300_005
    assert door.jobs() == set()
    assert not store.exists("dingrelay:dead"), "no dead letter"
    real = [door.answered("POST", ROBOT, ALERT, f"real-{number}") for number in range(3)]
    waiting = door.call(ALERT, ROBOT, token="another")
    last = door.only_job(but={*real})
    assert door.call(ALERT, ROBOT, token="one-more").result()["errcode"] == 410_100
    assert door.jobs() == {*real, last}, "too many of this address that DingTalk has not taken"
    assert door.answered("POST", ROBOT, ALERT, "real-1")
    assert door.answered("POST", ROBOT, ALERT, OPS), "a robot of the settings"
    door.done(last)
    assert waiting.result()["errcode"] == 0


def test_a_proxy_names_whose_tokens_they_are(
    door: Door, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.delete(*store.keys("dingrelay:robot*"), "none")
    monkeypatch.setattr(robots, "MOST_STRANGERS", 0)
    for hops in ("203.0.113.7", "evil, 198.51.100.1, 203.0.113.7", "203.0.113.7:5000, 127.0.0.1"):
        reply = door.gateway.ask(
            "POST", f"{ROBOT}?access_token=made-up", ALERT, X_Forwarded_For=hops
        )
        assert reply.json["errcode"] == 410_100
    assert store.get("dingrelay:robot-strangers:203.0.113.7") == b"3"


def test_a_robot_of_the_settings_is_known_by_its_new_token(
    shared_url: str, store: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.delete(*store.keys("dingrelay:robot*"), "none")
    monkeypatch.setattr(robots, "MOST_STRANGERS", 0)
    monkeypatch.setattr(current_apps, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.01)  # no worker runs
    webhook = "https://oapi.dingtalk.com/robot/send?access_token="
    file = tmp_path / "webhook"
    file.write_text(f"{webhook}the-old-token")
    monkeypatch.setenv("DINGTALK_ROBOT_OPS_WEBHOOK_FILE", str(file))
    with gateway_thread(Settings.load(env="sandbox", redis_url=shared_url)) as gateway:

        def code(token: str) -> int:
            reply = gateway.ask("POST", f"{ROBOT}?access_token={token}", ALERT)
            return int(reply.json["errcode"])

        assert (code("the-old-token"), code("the-new-token")) == (-1, 410_100)
        file.write_text(f"{webhook}the-new-token")
        wait_until(lambda: code("the-new-token") == -1)


def test_a_key_learns_nothing_of_robots_that_are_not_its_own(shared_url: str) -> None:
    bot = {"app": "default", "code": "bot-code"}
    settings = Settings.load(env="sandbox", redis_url=shared_url, robots={"bot": bot})
    with gateway_thread(settings) as gateway:
        key = gateway.backend.keys.add("oncall", "robots:write", apps=frozenset({"group:oncall"}))
        for name in ("bot", "none"):  # one is there, and can't be posted to so
            reply = gateway.ask("POST", f"{ROBOT}?access_token={name}@{key}", ALERT)
            assert (name, reply.json["errcode"]) == (name, 88)


def test_a_reply_is_taken_by_its_session(door: Door, store: Redis) -> None:
    call = door.call(ALERT, "/robot/sendBySession", session="session-of-the-group")
    job = door.only_job()
    assert json.loads(store.hget(job, "payload") or b"")["session"] is True
    assert b"session-of-the-group" not in b"".join(store.hvals(job))
    door.done(job)
    assert call.result()["errcode"] == 0
    none = door.call(ALERT, "/robot/sendBySession").result()
    assert (none["errcode"], "session" in none["errmsg"]) == (40_035, True)


def test_a_task_id_stands_for_a_job_and_names_no_person(door: Door, store: Redis) -> None:
    message = {"agent_id": "42", "userid_list": "zhang-san", "msg": ALERT}
    door.answered("POST", "/topapi/message/corpconversation/asyncsend_v2", message)
    (entry,) = store.keys("dingrelay:door-task:*")
    job = store.get(entry) or b""
    assert store.exists(f"dingrelay:job:{job.decode()}")
    assert b"zhang-san" not in entry + job


def test_every_refusal_has_dingtalks_shape(door: Door) -> None:
    large, half = b"[" + b" " * 2**20 * 2, b"{"
    wrong: list[dict[str, str]] = [{"Content-Length": "9"}, {"Content-Type": "text/plain"}, {}]
    for path, shape in ((CHANGE, {"errcode", "errmsg"}), (TODO, {"code", "message"})):
        target = f"{path}?access_token={door.token}"
        for content, given in ((large, {}), *((half, headers) for headers in wrong)):
            headers = {"Content-Type": "application/json"} | given
            headers["x-acs-dingtalk-access-token"] = door.token
            connection = http.client.HTTPConnection(door.gateway.host, door.gateway.port)
            connection.request("POST", target, content, headers)
            answer = json.load(connection.getresponse())
            connection.close()
            assert answer.keys() >= shape, (content[:9], given)
            assert answer.get("errcode") != 0
    twice = {"Idempotency-Key": "a"} | {"idempotency-key": "b"}
    assert "errcode" in door.gateway.ask("POST", CHANGE, {}, **twice).json
    assert door.gateway.ask("GET", f"{ROBOT}?access_token=robot").json["errcode"] == 43_002


def test_the_end_of_a_refused_job_is_not_that_of_the_next_one(door: Door, store: Redis) -> None:
    """Two equal requests hear that their job is dead, one so late that the next has begun."""
    late = door.call()
    job = door.only_job()
    # The other one has given the name back, and its program has asked again.
    store.set(door.entry, "of-the-next", keepttl=True)
    door.end(job, "dead")
    assert late.result()["errcode"] == -1
    assert store.get(door.entry) == b"of-the-next"


def test_a_running_job_is_rejoined(door: Door, store: Redis, impatient: Callable[[], None]) -> None:
    """An outage lasts longer than ten minutes, and programs repeat what was not answered."""
    impatient()
    door.busy()
    assert store.pttl(door.entry) > TEN_MINUTES
    door.busy()
    door.done(door.only_job(), roleId=7)
    assert door.call().result() == {"errcode": 0, "roleId": 7}


def test_a_job_that_ended_long_ago_is_another_requests(
    door: Door, impatient: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient()
    door.busy()
    first = door.only_job()
    monkeypatch.undo()
    done = {"result": {"answer": {"errcode": 0, "roleId": 7}}}
    door.end(first, "done", ago=timedelta(minutes=11), **done)
    again = door.call()
    second = door.only_job(but={first})
    door.done(second, roleId=8)
    assert again.result() == {"errcode": 0, "roleId": 8}
    assert door.call().result() == {"errcode": 0, "roleId": 8}


def test_a_call_that_is_too_large_for_a_job_is_refused(door: Door) -> None:
    """The gateway accepts a body of that size."""
    answer = door.call({"text": "\x01" * 170_000}).result()
    assert answer["errcode"] == 400_002
    assert "1 MB" in answer["errmsg"]
    assert door.jobs() == set()


def test_equal_files_of_two_programs_are_uploaded_one_by_one(
    served: GatewayClient, door: Door, store: Redis, impatient: Callable[[], None]
) -> None:
    served.backend.keys.add("shop")
    shop = Door(served, store, "shop")
    first = door.upload()
    job = door.only_job()
    impatient()
    second = shop.upload()
    door.only_job(but={job})
    door.done(job, media_id="@1")
    assert first.result() == {"errcode": 0, "media_id": "@1"}
    assert second.result().items() >= BUSY.items()
    assert len(store.keys("dingrelay:upload:*")) == 1
    shop.close()
