"""The registry of kinds: what a declaration leads to, and which declarations are refused."""

from typing import Any

import pytest
from pydantic import Field

from dingrelay_tasks import kinds
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract, Json, Part, UserId
from dingrelay_tasks.kinds import KINDS, Kind, declared_rules, kind
from dingrelay_tasks.packaged_kinds import KindError

PATH = "/v1.0/pings"


class Owners(Part):
    """People in a part."""

    users: list[UserId] = Field(default_factory=list)


class Ping(Contract):
    """Ping a person."""

    word: str = "x"
    to: Owners = Owners()
    owner: UserId = "u1"


class Pong(Ping):
    """Ping back."""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kind]:
    """The registry of a test, which leaves that of others as it is."""
    registry = dict(KINDS)
    monkeypatch.setattr(kinds, "_DECLARED", registry)
    monkeypatch.setattr(kinds, "KINDS", registry)
    return registry


def declare(name: str = "ping", contract: type[Contract] = Ping, **declared: Any) -> None:
    @kind(name, contract, **declared)
    async def run(job: Ping, ctx: Context) -> Json:
        return {}


def test_a_declaration_is_what_is_known_of_a_kind(registry: dict[str, Kind]) -> None:
    declare(queue="dingrelay.events", summary="says {0.word}", scope="pings:write", result=Part)
    job = Ping(app="hr", lane="urgent", sender="crm", word="hi")
    assert (job.kind, job.queue) == ("ping", "dingrelay.events")
    assert job.summary() == "ping app=hr lane=urgent sender=crm says hi"
    assert (registry["ping"].task, registry["ping"].is_reported) == ("dingrelay.ping", True)


def test_users_that_a_kind_names_have_an_outcome(registry: dict[str, Kind]) -> None:
    declare(users=("to.users", "owner"))
    outcomes = registry["ping"].outcomes
    assert outcomes is not None
    job = {"to": {"users": ["u1", "u2"]}, "owner": "u3"}
    assert outcomes(job, {}) == dict.fromkeys(("u1", "u2", "u3"), "not_sent")
    assert outcomes({"to": None}, {"call": {"answer": {}}}) == {}
    assert set(outcomes(job, {"call": {"answer": {}}}).values()) == {"accepted"}


def test_a_name_is_declared_once() -> None:
    declare()
    with pytest.raises(ValueError, match="declared twice"):
        declare()


def test_a_contract_is_that_of_one_kind(registry: dict[str, Kind]) -> None:
    """It says which kind its jobs are of: those of the other kind would be of the new one from then on."""
    theirs = registry["message-send"].contract
    with pytest.raises(KindError, match="MessageSend is the contract of the kind message-send"):
        declare("acme-note", theirs)
    assert theirs.kind == "message-send"
    declare("acme-note", type("Note", (theirs,), {}))
    assert theirs.kind == "message-send"


def test_kinds_agree_on_the_limits_of_an_api() -> None:
    for name, contract in (("ping", Ping), ("pong", Pong)):
        declare(name, contract, rules={PATH: {"calls": "2/1s"}})
    assert declared_rules()[PATH] == {"calls": "2/1s"}


def test_kinds_that_disagree_are_refused() -> None:
    declare(rules={PATH: {"calls": "2/1s"}})
    declare("pong", Pong, rules={PATH: {"calls": "1/1s"}})
    with pytest.raises(ValueError, match=PATH):
        declared_rules()


class WithoutOwners(Part):
    """A result whose people are not declared."""

    users: list[str]


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        ({"name": "Ping"}, "its name must be small letters"),
        ({"queue": "celery"}, "queue: no worker takes from celery"),
        ({"scope": "write"}, "scope: must be like todos:write"),
        ({"scope": "pings:write"}, "result: a kind that applications enqueue needs a model"),
        ({"path": "/pings"}, "path: must be like /v1/todos"),
        ({"summary": "{0.person}"}, "summary: 0.person is no field of the job"),
        ({"summary": "{0.word"}, "summary: "),
        ({"users": ["word"]}, "users: word is no field of userids"),
        ({"result": WithoutOwners}, "WithoutOwners.users: userids must be declared"),
        ({"rules": {"message.send": {"calls": "1/1s"}}}, "rules: message.send must be a path"),
        ({"contract": WithoutOwners}, "its contract must be a `Contract`"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(declaration: dict[str, Any], problem: str) -> None:
    declared = {"name": "ping", "contract": Ping, **declaration}

    async def run(job: Ping, ctx: Context) -> Json:
        return {}

    with pytest.raises(KindError) as refusal:
        Kind(**declared)(run)
    assert str(refusal.value).startswith(f"the kind {declared['name']} of {__name__}: {problem}")


def test_a_body_is_asynchronous() -> None:
    def run(job: Ping, ctx: Context) -> Any:
        return {}

    with pytest.raises(KindError, match="its body must be an async function"):
        kind("ping", Ping)(run)
