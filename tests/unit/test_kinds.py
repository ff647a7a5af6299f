"""The registry of kinds: what a declaration leads to, and which declarations are refused."""

from typing import Any

import pytest

from dingrelay_tasks import kinds
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.kinds import KINDS, Kind, declared_rules, kind


class Ping(Contract):
    """Ping a person."""

    word: str = "x"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kind]:
    """The registry of a test, which leaves that of others as it is."""
    registry = dict(KINDS)
    monkeypatch.setattr(kinds, "_DECLARED", registry)
    monkeypatch.setattr(kinds, "KINDS", registry)
    return registry


def declare(**declared: Any) -> None:
    @kind("ping", Ping, **declared)
    async def run(job: Ping, ctx: Context) -> Json:
        return {}


def test_a_declaration_is_what_is_known_of_a_kind(registry: dict[str, Kind]) -> None:
    declare(queue="dingrelay.events", summary="says {0.word}", scope="pings:write")
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


def test_kinds_agree_on_the_limits_of_an_api() -> None:
    declare(rules={"message.send": {"recipients": "5000/60s"}})
    assert declared_rules()["message.send"] == {"recipients": "5000/60s"}


def test_kinds_that_disagree_are_refused() -> None:
    declare(rules={"message.send": {"recipients": "1/60s"}})
    with pytest.raises(ValueError, match=r"message\.send"):
        declared_rules()
