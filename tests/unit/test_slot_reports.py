"""The report of a call to the fleet, once, when its slot is left."""

import asyncio
from typing import Any, cast

import pytest

from dingrelay_producers.store.scripts import Call
from dingrelay_workers.dingtalk.errors import (
    UNREACHABLE,
    Ambiguous,
    Credentials,
    DingTalkError,
    Permanent,
    Throttled,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.limiter import limiter, transitions
from dingrelay_workers.limiter.breakers import Breakers, Verdict
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import Slot, SlotRequest, Turns

REQUEST = SlotRequest(Turns("default", "message.send", "normal"), recipients=7)
TO_ROBOT = SlotRequest(Turns("robots", "robot.webhook@abc", "normal"))
NOW = 100.0


def unsent(error: DingTalkError) -> DingTalkError:
    error.unsent = True
    return error


class Fleet:
    """A limiter, and what it reports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[str] = []
        rules = Rules.from_settings({}, "office")
        breakers = Breakers(cast("Any", None), rules)
        monkeypatch.setattr(breakers, "sick", self._sick)
        monkeypatch.setattr(limiter, "run_async", self._run)
        self.limiter = Limiter(
            cast("Any", None),
            rules,
            max_wait=1,
            local_waiters=1,
            breakers=breakers,
            clock=lambda: NOW,
        )

    async def _sick(self, _: Any, symptom: str, **__: Any) -> Verdict:
        self.reports.append(symptom)
        return Verdict(outage=False, wait=3.0, opened=())

    async def _run(self, _: Any, call: Call) -> Any:
        if call.script is transitions.penalize.script:
            self.reports.append("throttled")
            return 0, 0
        assert call.script is transitions.ended.script
        _, probed, sane, trial, *_, charged, tokens, _, _, _ = call.arguments
        flags = {"probed": probed, "sane": sane, "trial": trial, f"{tokens:.2g} again": charged}
        self.reports.append(" ".join(word for word, set_ in flags.items() if set_))
        return []


PLAIN: dict[str, bool] = {}
TRIAL, PROBING, SICK = {"trial": True}, {"probing": True}, {"sick": True}


@pytest.mark.parametrize(
    ("slot", "error", "reports"),
    [
        (PLAIN, None, []),
        (PROBING, None, ["probed"]),
        (SICK, None, ["sane"]),
        (TRIAL, None, ["sane trial"]),
        (PLAIN, Permanent("40035", "wrong"), []),
        (TRIAL, Permanent("40035", "wrong"), ["sane trial"]),
        (PLAIN, Throttled("90018", "later"), ["throttled"]),
        (PROBING, Throttled("90018", "later"), ["throttled"]),
        (SICK, Throttled("90018", "later"), ["throttled", "sane"]),
        (PROBING, Throttled("41046", "later", alone=True), ["probed"]),
        (PLAIN, Transient("-1", "busy", sick="answer"), ["answer"]),
        (PLAIN, Ambiguous("timeout", "no answer", sick="way"), ["way"]),
        (PLAIN, Transient(UNREACHABLE, "no connection", sick="way"), ["cut"]),
        (TRIAL, Credentials("40089", "wrong secret"), ["held"]),
        (PLAIN, unsent(Throttled("paused", "no token")), []),
        (TRIAL, unsent(Credentials("40089", "no token")), ["unused"]),
        (SICK, TokenInvalid("40014", "expired"), []),
        (PROBING, TokenInvalid("40014", "expired"), []),
        (TRIAL, TokenInvalid("40014", "expired"), ["unused"]),
        (TRIAL, asyncio.CancelledError(), ["unused"]),
        (PLAIN, asyncio.CancelledError(), []),
    ],
)
async def test_a_call_that_left_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
    slot: dict[str, bool],
    error: BaseException | None,
    reports: list[str],
) -> None:
    fleet = Fleet(monkeypatch)
    wait = await fleet.limiter.report(Slot(REQUEST, at=NOW, sent=True, **slot), error)
    assert fleet.reports == reports
    assert wait == (3.0 if reports in (["answer"], ["way"], ["cut"], ["held"]) else 0.0)


@pytest.mark.parametrize("error", [None, asyncio.CancelledError(), RuntimeError()])
async def test_a_call_that_did_not_leave_gives_only_its_probe_back(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    fleet = Fleet(monkeypatch)
    await fleet.limiter.report(Slot(REQUEST, at=NOW - 20, sick=True, probing=True), error)
    assert fleet.reports == []
    await fleet.limiter.report(Slot(REQUEST, at=NOW - 20, trial=True), error)
    assert fleet.reports == ["unused"]


@pytest.mark.parametrize(
    "error",
    [
        None,
        Throttled("90018", "later"),
        Ambiguous("x", "y"),
        TokenInvalid("40014", "expired"),
        asyncio.CancelledError(),
    ],
)
@pytest.mark.parametrize(("request_", "charged"), [(REQUEST, "7 again"), (TO_ROBOT, "0.33 again")])
async def test_a_slow_call_is_charged_again_however_it_ends(
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    request_: SlotRequest,
    charged: str,
) -> None:
    fleet = Fleet(monkeypatch)
    slot = Slot(request_, at=NOW - 1, due=NOW - 1, sent=True)
    long_ago = Slot(request_, at=NOW - 31, due=NOW - 31)
    assert fleet.limiter.stale(long_ago), "it takes another slot"
    await fleet.limiter.report(slot, error)
    assert fleet.reports[-1] == charged


async def test_sane_answers_report_after_sick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch)
    slot = Slot(REQUEST, at=NOW, sent=True)
    await fleet.limiter.report(slot, Transient("-1", "busy", sick="answer"))
    await fleet.limiter.report(slot)
    await fleet.limiter.report(slot)
    assert fleet.reports == ["answer", "sane"]


async def test_an_outcome_stands_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch)

    async def away(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(limiter, "run_async", away)
    slot = Slot(REQUEST, at=NOW, sent=True, sick=True)
    assert await fleet.limiter.report(slot, Throttled("90018", "later")) == 0.0
