"""Messages that no client of ours would publish: the worker outlives them and logs what is wrong."""

import base64
import json
import pickle
import uuid
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from acceptance.malformed import GOOD, LONE_SURROGATE, Malformed, malformed_jobs, names
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import QUEUES
from support.examples import either
from support.jobs import message

AMOUNT = either(300, 1_000)
QUEUE = "dingrelay.normal"
GOOD_JOB = GOOD["message-send"]
PRIVATE = "not for any log"
"""Text of jobs that are refused without a record."""
PRIVATE_JOB = {**GOOD_JOB, "message": {"msgtype": "text", "text": {"content": PRIVATE}}}


@dataclass(frozen=True)
class Raw:
    """A Celery message as bytes on the broker.

    Attributes:
        wrong: the field that its record must name; empty where no record can be made.
    """

    task: Any = "dingrelay.message-send"
    args: Any = ()
    kwargs: Any = field(default_factory=dict)
    wrong: str = ""
    id: Any = field(default_factory=lambda: str(uuid.uuid4()))
    headers: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    content_type: Any = "application/json"
    encoding: Any = "utf-8"

    def on_broker(self) -> str:
        """The text that a Celery client would push to the queue's list in Redis."""
        body = self.body
        if body is None:
            usual = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
            embed = usual | self.embed
            body = json.dumps([list(self.args), self.kwargs, embed]).encode()
        return json.dumps(
            {
                "body": base64.b64encode(body).decode(),
                "content-encoding": self.encoding,
                "content-type": self.content_type,
                "headers": {"lang": "py", "task": self.task, "id": self.id, **self.headers},
                "properties": {
                    "correlation_id": self.id,
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": QUEUE, "routing_key": QUEUE},
                    "priority": 0,
                    "body_encoding": "base64",
                    "delivery_tag": str(uuid.uuid4()),
                },
            }
        )


def of(malformed: Malformed) -> Raw:
    return Raw(f"dingrelay.{malformed.kind}", (), {"job": malformed.job}, malformed.field)


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


NO_JOB = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.integers())
ENVELOPES = st.one_of(
    st.lists(st.integers() | st.text(), min_size=1, max_size=3).map(
        lambda args: Raw(args=args, kwargs={"job": GOOD_JOB}, wrong="args")
    ),
    NO_JOB.map(lambda job: Raw(kwargs={"job": job}, wrong="job")),
    st.just(Raw(wrong="job")),
    st.text(min_size=1, max_size=9).map(
        lambda name: Raw(kwargs={"job": GOOD_JOB, f"_{name}": 1}, wrong=f"_{name}")
    ),
)
ODD_IDS = st.one_of(
    st.text(min_size=1, max_size=400),
    st.integers(),
    st.sampled_from(
        ["", LONE_SURROGATE, "a\nb", "../..", "x" * 100_000, "*", "dingrelay:schedule"]
    ),
).map(lambda odd: Raw(id=odd, kwargs={"job": {"to": 1}}, wrong="to"))


def collected(strategy: st.SearchStrategy[Raw], amount: int) -> list[Raw]:
    """So many examples of a strategy."""
    found: list[Raw] = []

    @settings(
        max_examples=amount,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(raw: Raw) -> None:
        found.append(raw)

    collect()
    return found


def undecodable() -> list[Raw]:
    """Messages in which no job can be found: refused, without a record."""
    call = [[], {"job": PRIVATE_JOB}, {}]
    return [
        Raw(body=pickle.dumps(call), content_type="application/x-python-serialize"),
        Raw(body=pickle.dumps(call)),
        Raw(body=pickle.dumps(call), content_type="application/x-python-serialize", encoding=None),
        Raw(body=b"- yaml: 1", content_type="application/x-yaml"),
        Raw(body=json.dumps(call).encode("utf-16")),
        Raw(body=json.dumps(call).encode(), content_type=None),
        Raw(body=json.dumps(call).encode(), content_type="application/x-unknown"),
        *(Raw(body=body) for body in (b"", b"{", b"\xff\xfe", b"null", b"7", b'"x"', b"[]", b"{}")),
        *(Raw(body=body) for body in (b"[1]", b"[[], 1, {}]", b"[1, {}, {}]", b"[[], {}, 1]")),
        Raw(body=b"[" * 100_000),
        *(Raw(task=task, kwargs={"job": PRIVATE_JOB}) for task in ("dingrelay.", "os.system")),
        *(Raw(task=task, kwargs={"job": PRIVATE_JOB}) for task in ("", 7, None, ["x"])),
        Raw(task=LONE_SURROGATE, kwargs={"job": PRIVATE_JOB}),
        Raw(task="dingrelay.user-sync-everything", kwargs={"job": PRIVATE_JOB}),
        Raw(task="celery.backend_cleanup"),
    ]


def refused_headers() -> list[Raw]:
    """Headers for which Celery finds no meaning: refused, without a record."""
    odd: list[dict[str, Any]] = [
        {"expires": "yesterday"},
        {"expires": []},
        {"timelimit": "long"},
        {"compression": "bzip2"},
        {"id": [1, {"a": "b"}]},
    ]
    return [Raw(kwargs={"job": PRIVATE_JOB}, headers=headers) for headers in odd]


def odd_headers() -> list[Raw]:
    """Headers that make no sense and don't matter, around a job that is wrong."""
    odd: list[dict[str, Any]] = [
        {"retries": "many"},
        {"argsrepr": {"a": 1}, "kwargsrepr": LONE_SURROGATE},
        {"dingrelay-woken": "x"},
        {"dingrelay-woken": 2**200},
        {"dingrelay-woken": -5},
        {"root_id": 7, "parent_id": [], "group": {}},
        {"callbacks": [{"task": "os.system"}], "chain": 5, "chord": "x", "errbacks": 3},
        {"shadow": 5, "lang": 5, "origin": {}},
        {"stamps": 5, "stamped_headers": 6},
    ]
    return [Raw(kwargs={"job": {"to": 1}}, wrong="to", headers=headers) for headers in odd]


def not_carried_out() -> list[Raw]:
    """Good jobs with options of Celery's that make no sense, or of which nothing would follow."""
    other = {"task": "tasks.after", "args": [], "kwargs": {}, "options": {}}
    embeds = {"callbacks": [other], "errbacks": [other], "chain": [other], "chord": other}
    names = ("link", "link_error", "chain", "chord")
    job = {"job": GOOD_JOB}
    follow = [
        Raw(kwargs=job, wrong=name, embed={key: value})
        for name, (key, value) in zip(names, embeds.items(), strict=True)
    ]
    first = {"task": "dingrelay.message-send", "id": str(uuid.uuid4()), "args": [], "kwargs": job}
    later = {**first, "id": str(uuid.uuid4())}
    return [
        *follow,
        *(Raw(kwargs=job, wrong="eta", headers={"eta": eta}) for eta in ("tomorrow", 5, [])),
        FirstVersion(id=first["id"], wrong="link", content={**first, "callbacks": [other]}),
        FirstVersion(id=later["id"], wrong="eta", content={**later, "eta": "tomorrow"}),
    ]


@dataclass(frozen=True)
class FirstVersion(Raw):
    """A message of the first version of Celery's protocol, which is all in its body."""

    content: dict[str, Any] = field(default_factory=dict)

    def on_broker(self) -> str:
        document: dict[str, Any] = json.loads(Raw(id=self.id).on_broker())
        body = base64.b64encode(json.dumps(self.content).encode()).decode()
        return json.dumps({**document, "headers": {}, "body": body})


POISON = (
    "[" * 100_000,
    '{"__type__": "decimal", "__value__": "x"}',
    '{"properties": {"__type__": "datetime", "__value__": 7}}',
    "\x00",
)
"""Texts that raise what is no ValueError while they are opened."""


def odd_sizes() -> list[Raw]:
    """Jobs that are far too large or too deep."""
    text = {"msgtype": "text", "text": {"content": "字" * 2_000_000}}
    many = [f"u{number}" for number in range(50_000)] + ["a,b"]
    form = [{"name": "n", "value": nested(400)}]
    jobs = [
        ("message-send", {**GOOD_JOB, "message": text}, "message.text.content"),
        ("message-send", {**GOOD_JOB, "to": {"users": many}}, "to.users.50000"),
        ("message-send", {**GOOD_JOB, "to": nested(100)}, "to"),
        ("message-send", {**GOOD_JOB, "to": nested(400)}, "to"),
        ("message-send", {**GOOD_JOB, "to": nested(900)}, "to"),
        ("message-send", {**GOOD_JOB, "app": 10**4_000}, "app"),
        ("approval-create", {**GOOD["approval-create"], "form": form, "cc": 1}, "cc"),
        ("message-send", {**GOOD_JOB, "to": float("nan")}, "to"),
    ]
    return [Raw(f"dingrelay.{kind}", (), {"job": job}, wrong) for kind, job, wrong in jobs]


def malformed_messages() -> list[Raw]:
    """Malformed Celery messages of every sort."""
    fixed = [*undecodable(), *refused_headers(), *odd_headers(), *not_carried_out(), *odd_sizes()]
    drawn = [*collected(ENVELOPES, 100), *collected(ODD_IDS, 100)]
    rest = AMOUNT - len(fixed) - len(drawn)
    return [*fixed, *drawn, *collected(malformed_jobs().map(of), rest)]


def test_a_worker_outlives_malformed_messages_and_names_what_is_wrong(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey_url: str
) -> None:
    messages = malformed_messages()
    (worker,) = fleet.spawn(1, concurrency=8, queues=QUEUES)
    with Redis.from_url(valkey_url) as redis:
        texts = [raw.on_broker() for raw in messages]
        for text in texts:
            redis.lpush(QUEUE, text)
        for text in POISON:
            redis.lpush(QUEUE, text)
            redis.publish("/0.celery.pidbox", text)
        # Nothing may stay behind: it would come back, or keep its place in the worker for ever.
        wait_until(
            lambda: not redis.llen(QUEUE) and not traffic.taken(redis),
            timeout=60,
            what="every message is dealt with",
        )
        kept = {text.split(b"\n", 1)[1].decode() for text in redis.lrange(keys.REFUSED, 0, -1)}
        unread = [
            text for text, raw in zip(texts, messages, strict=True) if raw.headers.get("expires")
        ]
        assert {text[: keys.REFUSED_BYTES] for text in (*POISON, *unread)} <= kept
    assert worker.alive
    logs = fleet.logs()
    assert "control_command_refused" in logs
    assert PRIVATE not in logs
    assert sandbox.audit()["calls"] == {}

    dead = {status.id: status.error for status in client.dead(2 * AMOUNT)}
    assert len(dead) == len(client.recent(2 * AMOUNT))
    assert len(dead) == len({repr(raw.id) for raw in messages if raw.wrong})
    for raw in messages:
        if raw.wrong and raw.id in dead:
            error = dead[raw.id]
            assert error.error_class == "contract"
            assert names(error.code, raw.wrong), (ascii(raw), error)
            assert error.message.startswith(error.code)

    good = client.send(message())
    assert wait_for_ends(client, [good.id], timeout=20)[0].state == State.DONE
    assert worker.alive
