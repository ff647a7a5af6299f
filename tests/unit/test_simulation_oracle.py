"""The oracle of the simulation: what it notices, and what it forgives because of which fault."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dingrelay_producers.store.states import State
from dingrelay_simulation import upgrade
from dingrelay_simulation.application import Delivery
from dingrelay_simulation.approvals import Followed
from dingrelay_simulation.campaigns import Broadcast, Order
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.faults import Faults, Trouble
from dingrelay_simulation.fleet import ChunkRun, Run
from dingrelay_simulation.lanes import LanePause
from dingrelay_simulation.operations import ASYNCSEND, BATCH_SEND, READ, Command, Request, Requests
from dingrelay_simulation.oracle import verify
from dingrelay_simulation.oracle.approvals import SEARCH
from dingrelay_simulation.oracle.evidence import WORKERS, Effect, Evidence, Month, read_tag
from dingrelay_simulation.organisation import Directories, Leaving
from dingrelay_simulation.run import answered_in_time
from dingrelay_simulation.webhooks import Endpoint


def request(name: str = "send", tag: str = "m1", job: str = "j1", **values: Any) -> Request:
    number = int(job[1:])
    return Request(number, 1.0, name, {"users": ["u1"], **values}, tag, job, "yes")


def effect(at: float, *, answered: float | None = None, worker: str = "w0", **more: Any) -> Effect:
    delivered = () if more.get("dropped") else ("u1",)
    values: dict[str, Any] = {"tag": "m1", "users": ("u1",), "delivered": delivered, **more}
    values = {"path": ASYNCSEND, "left": at, **values}
    values = {"departed": values["left"], "left_on": values.get("day", 0), **values}
    return Effect(int(at * 1_000), at, worker, answered=answered, **values)


def status(state: State, **result: Any) -> Any:
    return SimpleNamespace(state=state, result=result, id="j1", error="", settled_at=None)


def kinds(
    requests: Sequence[Request],
    statuses: dict[str, Any],
    effects: Sequence[Effect] = (),
    *,
    troubles: Sequence[Trouble] = (),
    forgotten: Sequence[tuple[float, float]] = (),
    commands: Sequence[Command] = (),
    **more: Any,
) -> list[str]:
    """Kinds of what the oracle finds to be violated."""
    network = SimpleNamespace(on_send=None, on_arrive=None)
    fleet: Any = SimpleNamespace(network=network)
    faults = Faults(fleet, lambda *_: None)
    faults.troubles.extend(troubles)
    faults.forgotten.extend(forgotten)
    values: dict[str, Any] = {"instances": {}, "posts": {}, "keys_without_end": [], "redis_skew": 0}
    values["attempts"] = values["calls"] = sorted(effects, key=lambda one: one.at)
    values["runs"] = {one.job: [Run(one.at, worker) for worker in WORKERS] for one in requests}
    evidence = Evidence(
        Requests(list(requests), list(commands)),
        statuses,
        [one for one in values["attempts"] if one.verdict == "ok"],
        faults,
        **{**values, **more},
    )
    return [violation.kind for violation in verify(evidence)]


CREATE = "/v1.0/workflow/processInstances"
DONE = {"j1": status(State.DONE, calls=1)}


def instance(name: str, status: str = "COMPLETED", result: str = "agree") -> Any:
    return SimpleNamespace(id=name, status=status, result=result)


def test_a_message_that_is_done_and_arrived_is_right() -> None:
    assert kinds([request()], DONE, [effect(2.0, answered=2.1)]) == []


def test_a_message_that_is_done_and_arrived_nowhere_is_lost() -> None:
    assert kinds([request()], DONE) == ["lost"]


def test_a_job_without_an_end_or_without_a_record_is_named() -> None:
    assert kinds([request()], {"j1": status(State.RUNNING)}) == ["open"]
    assert kinds([request()], {"j1": None}) == ["gone"]


def test_a_record_may_be_gone_that_was_discarded_or_that_redis_forgot() -> None:
    discard = Command(2.0, "discard", "j1", "done")
    assert kinds([request()], {"j1": None}, commands=[discard]) == []
    assert kinds([request()], {"j1": None}, forgotten=[(0.8, 1.2)]) == []
    assert kinds([request()], {"j1": None}, forgotten=[(3.0, 3.2)]) == ["gone"]
    runs = {"j1": [Run(2.0, "w0", until=4.0)]}
    assert kinds([request()], {"j1": None}, forgotten=[(3.0, 3.2)], runs=runs) == ["gone"]
    bare = request("bare")
    assert kinds([bare], {"j1": None}, forgotten=[(3.0, 3.2)], runs=runs) == []
    assert kinds([bare], {"j1": None}, forgotten=[(5.0, 5.2)], runs=runs) == ["gone"]


def test_a_job_ends_once_unless_it_was_requeued_or_redis_forgot() -> None:
    call, twice = [effect(2.0, answered=2.1)], {"j1": [(2.2, "w0"), (9.0, "w0")]}
    requeue = Command(5.0, "requeue", "j1", "True")
    assert kinds([request()], DONE, call, ends={"j1": [(2.2, "w0")]}) == []
    assert kinds([request()], DONE, call, ends=twice) == ["ended"]
    assert kinds([request()], DONE, call, ends=twice, commands=[requeue]) == []
    assert kinds([request()], DONE, call, ends=twice, forgotten=[(2.0, 2.3)]) == []


@pytest.mark.parametrize(
    ("troubles", "violated"),
    [
        ([], ["ended"]),
        ([Trouble("freeze", "w0", 2.3, 6.0)], []),
        ([Trouble("redis silent", "redis", 2.3, 4.0), Trouble("freeze", "w0", 3.0, 6.0)], []),
        ([Trouble("freeze", "w0", 4.0, 6.0)], ["ended"]),
        ([Trouble("freeze", "w1", 2.3, 6.0)], ["ended"]),
        ([Trouble("redis restart", "redis", 2.5, 6.0)], ["ended"]),
    ],
)
def test_redis_may_forget_an_end_before_its_worker_hears_of_it(
    troubles: list[Trouble], violated: list[str]
) -> None:
    call, ends = [effect(2.0, answered=2.1)], {"j1": [(6.1, "w0"), (9.0, "w1")]}
    known: Any = {"forgotten": [(2.2, 2.5)], "troubles": troubles}
    assert kinds([request()], DONE, call, ends=ends, **known) == violated


@pytest.mark.parametrize("reason", ["invalid", "unreached", "daily_cap"])
def test_a_reason_that_dingtalk_never_gave_is_untrue(reason: str) -> None:
    assert kinds([request()], {"j1": status(State.DONE, **{reason: ["u1"]})}) == ["untrue"]


def test_a_duplicate_needs_another_message() -> None:
    done = {"j1": status(State.DONE, duplicate=["u1"])}
    assert kinds([request()], done) == ["untrue"]
    unknown = {**done, "j2": status(State.UNKNOWN)}
    assert kinds([request(), request(job="j2")], unknown) == []


def test_nobody_knows_of_a_copy_that_dingtalk_dropped_beyond_the_recipients_of_a_window() -> None:
    both = {"j1": status(State.DONE, duplicate=["u1"]), "j2": status(State.DONE)}
    held_up = effect(2.0, answered=2.1, spoilt=True, dropped={"u1": "143103"})
    assert kinds([request(), request(job="j2")], both, [held_up]) == []
    for reason in ("invalid", "daily_cap"):
        named = {"j1": status(State.DONE, **{reason: ["u1"]})}
        assert ("untrue" in kinds([request()], named, [held_up])) == (reason == "daily_cap")


AGAIN = [effect(2.0, answered=2.1), effect(5.0, answered=5.1, worker="w1")]


def test_a_call_that_was_answered_is_not_made_again() -> None:
    assert kinds([request()], DONE, AGAIN) == ["again"]


def test_a_call_without_an_answer_is_made_again() -> None:
    again = effect(5.0, answered=5.1, worker="w1")
    assert kinds([request()], DONE, [effect(2.0, spoilt=True), again]) == []
    assert kinds([request()], DONE, [effect(2.0), again]) == ["again"]
    for subject, forgiven in (("w0", True), ("dingtalk", True), ("redis", True), ("w1", False)):
        trouble = Trouble("freeze", subject, 1.0, 4.0)
        violated = kinds([request()], DONE, [effect(2.0), again], troubles=[trouble])
        assert violated == ([] if forgiven else ["again"])


def test_a_call_that_was_held_up_on_its_way_was_the_first_one() -> None:
    again = effect(5.0, answered=5.1, worker="w1")
    assert kinds([request()], DONE, [again, effect(9.0, left=2.0, spoilt=True)]) == []
    assert kinds([request()], DONE, [again, effect(9.0, left=6.0, spoilt=True)]) == ["again"]


@pytest.mark.parametrize(
    ("trouble", "forgiven"),
    [
        (Trouble("kill", "w0", 2.05, 9.0), True),
        (Trouble("kill", "w1", 2.05, 9.0), False),
        (Trouble("kill", "w0", 3.0, 9.0), False),
        (Trouble("kill", "w0", 0.5, 1.5), False),
        (Trouble("redis slow", "redis", 1.0, 2.05), True),
        (Trouble("dingtalk away", "dingtalk", 1.0, 9.0), False),
        (Trouble("clock", "w0", 1.0, 99.0), False),
    ],
)
def test_a_fault_forgives_only_the_call_that_it_struck(trouble: Trouble, forgiven: bool) -> None:
    expected = [] if forgiven else ["again"]
    assert kinds([request()], DONE, AGAIN, troubles=[trouble]) == expected


@pytest.mark.parametrize(
    ("trouble", "left", "began", "forgiven"),
    [
        (Trouble("freeze", "w0", 5.0, 20.0), 21.0, 21.5, True),
        (Trouble("redis slow", "redis", 5.0, 20.0), 21.0, 21.5, True),
        (Trouble("freeze", "w1", 5.0, 20.0), 21.0, 21.5, False),
        (Trouble("dingtalk away", "dingtalk", 5.0, 20.0), 21.0, 21.5, False),
        (Trouble("freeze", "w0", 0.5, 1.5), 21.0, 21.5, False),
        (Trouble("freeze", "w0", 5.0, 20.0), 21.0, 20.5, False),
        (Trouble("freeze", "w0", 5.0, 20.0), 21.0, 23.5, False),
    ],
)
def test_a_call_is_repeated_by_the_run_that_took_its_job_over_once_it_was_noted(
    trouble: Trouble, left: float, began: float, forgiven: bool
) -> None:
    runs = {"j1": [Run(2.0, "w0", until=23.0), Run(began, "w1", until=26.0)]}
    calls = [
        effect(22.0, left=left, answered=22.5),
        effect(25.0, left=24.0, answered=25.5, worker="w1"),
    ]
    violated = kinds([request()], DONE, calls, runs=runs, troubles=[trouble])
    assert violated == ([] if forgiven else ["again"])


def test_a_campaigns_call_is_repeated_by_the_run_that_took_its_chunk_over() -> None:
    report, frozen = broadcast("accepted"), Trouble("freeze", "w0", 5.0, 20.0)
    calls = [
        effect(22.0, left=21.0, answered=22.5, tag="b1 u1"),
        effect(25.0, answered=25.5, worker="w1", tag="b1 u1", dropped={"u1": "143106"}),
    ]
    chunk = ChunkRun(2.0, "w0", "campaign-1", frozenset({"u1"}), until=23.0)
    later = replace(chunk, at=21.5, worker="w1", until=26.0)
    for runs, violated in (({"c1": [chunk, later]}, []), ({"c1": [chunk]}, ["dropped"])):
        found = kinds([], {}, calls, broadcasts=[report], runs=runs, troubles=[frozen])
        assert found == violated


def test_a_call_is_made_again_whose_end_redis_forgot() -> None:
    slow = [effect(2.0, answered=12.0), effect(20.0, answered=20.1)]
    assert kinds([request()], DONE, slow, forgotten=[(11.8, 12.3)]) == []
    assert kinds([request()], DONE, slow, forgotten=[(13.0, 14.0)]) == ["again"]


def test_a_call_leaves_in_a_run_of_its_job() -> None:
    call = effect(3.0, answered=3.1)
    for run, violated in (
        (Run(2.0, "w0", until=3.1), []),
        (Run(3.1, "w0"), ["stray"]),
        (Run(2.0, "w0", until=2.9), ["stray"]),
        (Run(2.0, "w1"), ["stray"]),
    ):
        assert kinds([request()], DONE, [call], runs={"j1": [run]}) == violated
    assert kinds([request()], DONE, [call], runs={}) == ["stray"]


def test_equal_messages_may_go_out_again_on_another_day() -> None:
    jobs = [request(), request(job="j2")]
    states = {"j1": status(State.DONE), "j2": status(State.DONE)}
    days = [effect(2.0, answered=2.1, day=1), effect(5.0, answered=5.1, day=2)]
    assert kinds(jobs, states, days) == []
    assert kinds(jobs[:1], DONE, days) == ["again"]
    # The first one left on the day before, and was long on its way.
    days = [effect(6.0, left=1.5, answered=6.1, day=2, left_on=1), effect(8.0, day=2)]
    assert kinds(jobs, states, days) == []
    assert kinds(jobs[:1], DONE, days) == ["again"]


def test_a_lost_call_is_not_repeated_on_another_day() -> None:
    days = [effect(2.0, day=1), effect(5.0, answered=5.1, day=2)]
    assert kinds([request()], DONE, days) == ["again"]
    assert kinds([request()], DONE, days, forgotten=[(1.5, 2.5)]) == []
    days[0].delivered = ()
    assert kinds([request()], DONE, days) == []


def test_a_call_of_another_api_is_repeated_on_another_day_as_on_the_same() -> None:
    calls = [effect(2.0, day=0, path=BATCH_SEND), effect(12.0, day=1, path=BATCH_SEND)]
    frozen = Trouble("freeze", "w0", 2.0, 12.0)
    assert kinds([request("call")], DONE, calls, troubles=[frozen]) == []
    assert kinds([request("call")], DONE, calls) == ["again"]


def test_a_repeat_that_left_on_the_day_of_the_first_call_may_be_long_on_its_way() -> None:
    first = effect(2.0, spoilt=True)
    late = ["again", "midnight"]
    for left, left_on, violated in ((1.5, 0, []), (4.5, 0, late), (1.5, 1, ["again"])):
        second = effect(5.0, left=left, left_on=left_on, day=1, answered=5.1)
        assert kinds([request()], DONE, [first, second]) == violated


def test_a_message_arrives_on_the_day_on_which_it_left() -> None:
    call = effect(5.0, left=1.0, departed=4.0, left_on=0, day=1, answered=5.1)
    assert kinds([request()], DONE, [call]) == ["midnight"]
    call.departed = 1.5
    assert kinds([request()], DONE, [call]) == []
    call.departed = 4.0
    assert kinds([request()], DONE, [call], troubles=[Trouble("redis slow", "redis", 0.5, 2)]) == []


def test_a_cancelled_job_makes_no_call_that_it_had_not_noted() -> None:
    cancel = Command(2.0, "cancel", "j1", "False")
    under_way = effect(3.0, left=2.0, answered=3.1)
    assert kinds([request()], DONE, [under_way], commands=[cancel]) == []
    later = [effect(3.0, answered=3.1)]
    assert kinds([request()], DONE, later, commands=[cancel]) == ["cancelled"]
    lost = [effect(1.0, verdict="fault"), *later]
    assert kinds([request()], DONE, lost, commands=[cancel]) == []
    refused = [effect(1.0, verdict="throttled", answered=1.1), *later]
    assert kinds([request()], DONE, refused, commands=[cancel]) == ["cancelled"]


@pytest.mark.parametrize(
    ("trouble", "forgiven"),
    [
        (Trouble("freeze", "w0", 1.9, 2.9), True),
        (Trouble("freeze", "w0", 2.5, 2.9), False),
        (Trouble("redis slow", "redis", 1.5, 2.9), True),
        (Trouble("redis slow", "redis", 2.5, 2.9), False),
        (Trouble("kill", "w1", 1.5, 2.9), True),
        (Trouble("kill", "w1", 2.5, 2.9), False),
        (Trouble("database", "w0", 1.5, 2.9), False),
        (Trouble("throttle", "dingtalk", 1.5, 2.9), False),
        (Trouble("dingtalk away", "dingtalk", 1.5, 2.9), True),
    ],
)
def test_a_fault_after_a_cancellation_forgives_no_call(trouble: Trouble, forgiven: bool) -> None:
    cancel, later = Command(2.0, "cancel", "j1", "True"), [effect(3.0, answered=3.1)]
    expected = [] if forgiven else ["cancelled"]
    assert kinds([request()], DONE, later, commands=[cancel], troubles=[trouble]) == expected


@pytest.mark.parametrize(
    ("trouble", "forgiven"),
    [
        (Trouble("kill", "w0", 3.5, 3.6), True),
        (Trouble("redis slow", "redis", 3.5, 3.6), False),
        (Trouble("kill", "w0", 5.1, 5.2), False),
    ],
)
def test_a_call_that_was_noted_before_a_cancellation_leaves_once_its_connection_is_open(
    trouble: Trouble, forgiven: bool
) -> None:
    cancel, again = Command(2.0, "cancel", "j1", "False"), [effect(9.0, answered=9.1)]
    expected = [] if forgiven else ["cancelled"]
    judged = kinds([request()], DONE, again, commands=[cancel], troubles=[trouble], way=1.5)
    assert judged == expected


def test_a_call_that_only_reads_is_made_by_a_job_that_runs_when_it_is_cancelled() -> None:
    later, read = [effect(3.0, answered=3.1)], request("burst")
    for answer, is_wrong in (("False", False), ("True", True)):
        cancel = Command(2.0, "cancel", "j1", answer)
        assert ("cancelled" in kinds([read], DONE, later, commands=[cancel])) == is_wrong


def test_a_job_expires_by_redis_clock() -> None:
    times, expired = request("times", expires_in=10.0), {"j1": status(State.EXPIRED)}
    assert kinds([times], expired, ends={"j1": [(11.0, "w0")]}) == []
    assert kinds([times], expired, ends={"j1": [(5.0, "w0")]}) == ["untrue"]
    assert kinds([times], expired, ends={"j1": [(5.0, "w0")]}, redis_skew=6.0) == []
    assert kinds([request()], expired, ends={"j1": [(5.0, "w0")]}) == ["untrue"]


def test_no_job_dies_of_what_passes() -> None:
    dead = status(State.DEAD)
    dead.error = SimpleNamespace(error_class="permanent", code="60121")
    assert kinds([request()], {"j1": dead}) == []
    dead.error.error_class = "credentials"
    assert kinds([request()], {"j1": dead}) == ["dead"]
    dead.error = SimpleNamespace(error_class="permanent", code="unreadable")
    assert kinds([request()], {"j1": dead}) == ["dead"]


def test_a_job_that_was_put_off_makes_no_call_before_its_time() -> None:
    put_off = {"j1": [(2.0, 4.0)]}
    assert kinds([request()], DONE, [effect(7.0, answered=7.1)], pauses=put_off) == []
    runs = {"pauses": put_off, "ends": {"j1": [(4.2, "w0")]}}
    assert kinds([request()], DONE, [effect(1.5, answered=1.6)], **runs) == ["early"]
    early = [effect(4.0, answered=4.1)]
    assert kinds([request()], DONE, early, pauses=put_off) == ["early"]
    requeue = Command(3.0, "requeue", "j1", "True")
    assert kinds([request()], DONE, early, pauses=put_off, commands=[requeue]) == []


def test_no_second_holds_more_calls_as_they_left_than_the_limit() -> None:
    even = [effect(4.0, left=2.0 + number / 2) for number in range(4)]
    close = [effect(4.0, left=2.0 + number / 5) for number in range(4)]
    assert "limit" not in kinds([request()], DONE, even, limit=2)
    assert "limit" in kinds([request()], DONE, close, limit=2)
    assert "limit" not in kinds([request()], DONE, close, limit=3)
    two_apis = [effect(4.0, left=one.left, method="GET") for one in close[::2]] + close[1::2]
    assert "limit" not in kinds([request()], DONE, two_apis, limit=2)
    tokens = [effect(4.0, path="/gettoken") for _ in range(4)]
    assert "limit" not in kinds([request()], DONE, tokens, limit=2)


def test_only_a_call_that_waits_for_others_to_join_it_is_late() -> None:
    late = [effect(4.0, left=left) for left in (2.4, 2.5, 3.0)]
    assert "limit" not in kinds([request()], DONE, late, limit=2)
    alone = [effect(4.0, left=call.left, path="/topapi/v2/user/list") for call in late]
    assert "limit" in kinds([request()], DONE, alone, limit=2)


def test_a_call_that_is_repeated_with_a_new_token_needs_another_slot() -> None:
    refused = effect(4.0, left=1.5, verdict="token")
    repeated = [effect(4.0, left=2.0 + number / 5, answered=4.1) for number in range(3)]
    assert "limit" in kinds([request()], DONE, repeated, limit=2)
    assert "limit" in kinds([request()], DONE, [refused, *repeated], limit=2)


def test_a_call_is_made_again_whose_worker_was_killed_while_it_read_the_report() -> None:
    killed = [Trouble("kill", "w0", 4.0, 9.0)]
    assert kinds([request("confirm")], DONE, AGAIN, troubles=killed) == []
    assert kinds([request()], DONE, AGAIN, troubles=killed) == ["again"]


@pytest.mark.parametrize(
    ("trouble", "forgiven"),
    [
        (Trouble("redis slow", "redis", 1.0, 1.5), True),
        (Trouble("freeze", "w0", 1.0, 1.5), True),
        (Trouble("freeze", "w1", 1.0, 1.5), False),
        (Trouble("cut from dingtalk", "w0", 1.0, 2.5), False),
        (Trouble("redis slow", "redis", 11.0, 11.5), False),
    ],
)
def test_calls_leave_close_together_whose_slots_came_late(trouble: Trouble, forgiven: bool) -> None:
    close = [effect(12.0, left=10.0 + number / 5) for number in range(4)]
    late = Trouble(trouble.name, trouble.subject, trouble.since + 8, trouble.until + 8)
    assert ("limit" in kinds([request()], DONE, close, limit=2, troubles=[late])) != forgiven


def test_the_months_calls_are_counted_unless_their_answers_were_lost() -> None:
    answers = [("w0", 2.0), ("w0", 4.0)]
    assert kinds([], {}, month=Month(2, answers)) == []
    assert kinds([], {}, month=Month(1, answers)) == ["month"]
    assert kinds([], {}, month=Month(3, answers)) == ["month"]
    assert kinds([], {}, month=Month(1, [("w0", None), ("w0", 4.0)])) == []
    killed = [Trouble("kill", "w0", 2.1, 9.0)]
    assert kinds([], {}, month=Month(1, answers), troubles=killed) == []
    slow = Trouble("redis slow", "redis", 2.1, 9.0)
    assert kinds([], {}, month=Month(3, answers), troubles=[slow]) == ["month"]
    assert kinds([], {}, month=Month(1, answers), troubles=[slow]) == ["month"]
    later = Trouble("kill", "w0", 12.0, 20.0)
    assert kinds([], {}, month=Month(1, answers), troubles=[slow, later]) == []
    assert kinds([], {}, month=Month(1, answers), troubles=[later]) == ["month"]
    assert kinds([], {}, month=Month(1, answers), forgotten=[(4.1, 4.2)]) == []


def test_an_answer_that_comes_after_its_calls_time_is_none() -> None:
    fleet: Any = SimpleNamespace(
        dingtalk=SimpleNamespace(left={1: (2.0, 3.0)}), settings=SimpleNamespace(call_timeout=15.0)
    )
    assert answered_in_time(fleet, 1, {1: 16.9}) == 16.9
    assert answered_in_time(fleet, 1, {1: 17.0}) is None
    assert answered_in_time(fleet, 1, {}) is None


def test_a_call_that_must_be_single_is_forgiven_only_where_redis_forgot_it() -> None:
    once = request("call", effect="once", user="u1", users=[])
    twice = [effect(2.0), effect(5.0, answered=5.1)]
    assert kinds([once], DONE, twice) == ["twice"]
    assert kinds([once], DONE, twice, forgotten=[(1.5, 2.5)]) == []
    assert kinds([once], DONE, twice, forgotten=[(4.0, 6.0)]) == ["twice"]


def test_a_message_that_was_to_stop_does_not_go_on() -> None:
    twice = [effect(2.0, spoilt=True), effect(5.0, answered=5.1)]
    assert kinds([request("stop_on_unknown")], DONE, twice) == ["twice"]


def test_a_job_that_reports_no_call_made_none() -> None:
    cancelled = {"j1": status(State.CANCELLED)}
    assert kinds([request()], cancelled, [effect(2.0)]) == ["silent"]
    assert kinds([request()], {"j1": status(State.CANCELLED, calls=1)}, [effect(2.0)]) == []


def test_a_message_leaves_in_its_time() -> None:
    times = request("times", send_in=5.0, expires_in=10.0)
    assert kinds([times], DONE, [effect(3.0, answered=3.1)]) == ["early"]
    assert kinds([times], DONE, [effect(7.0, answered=7.1)]) == []
    assert kinds([times], DONE, [effect(13.0, answered=13.1)]) == ["late"]
    frozen = [Trouble("freeze", "w0", 9.0, 13.0)]
    assert kinds([times], DONE, [effect(13.0, answered=13.1)], troubles=frozen) == []
    later = [Trouble("freeze", "w0", 12.5, 13.0)]
    assert kinds([times], DONE, [effect(13.0, answered=13.1)], troubles=later) == ["late"]
    slow = effect(14.0, left=10.9, answered=15.1)
    assert kinds([times], DONE, [slow]) == []
    assert kinds([times], DONE, [effect(3.0, answered=3.1)], redis_skew=5.0) == []


def test_approvals_exist_once_for_a_job() -> None:
    job = request("approval", "a1")
    done = {"j1": status(State.DONE, instance_id="p1")}
    one, two = instance("p1"), instance("p2")
    known: Any = {"followed": {"p1": Followed("approved", "j1")}}
    assert kinds([job], done, instances={"a1": [one]}, **known) == []
    assert kinds([job], done, instances={}) == ["lost", "unfollowed"]
    assert kinds([job], done, instances={"a1": [one, two]}, **known) == ["twice"]
    assert kinds([job], {"j1": status(State.DEAD)}, instances={"a1": [one]}) == ["twice"]
    assert kinds([job], {"j1": status(State.UNKNOWN)}, instances={"a1": [one]}) == []


@pytest.mark.parametrize(
    ("arrived", "searched", "troubles", "forgiven"),
    [
        (30.0, 28.0, [], True),
        (26.0, 28.0, [], False),
        (30.0, 26.0, [], False),
        (26.0, 13.0, [], False),
        (26.0, 13.0, [Trouble("kill", "w0", 3.0, 4.0)], True),
        (26.0, 13.0, [Trouble("kill", "w1", 3.0, 4.0)], False),
        (30.0, 32.0, [], False),
    ],
)
def test_an_approval_is_created_again_that_dingtalk_created_after_it_was_searched_for(
    arrived: float, searched: float, troubles: list[Trouble], forgiven: bool
) -> None:
    job, done = request("approval", "a1"), {"j1": status(State.DONE, instance_id="p1")}
    calls = [
        effect(arrived, left=2.0, tag="a1", path=CREATE),
        effect(searched, answered=searched + 0.1, tag="", path=SEARCH, worker="w1"),
        effect(33.0, answered=33.1, tag="a1", path=CREATE, worker="w1"),
    ]
    more: Any = {
        "instances": {"a1": [instance("p1"), instance("p2")]},
        "followed": {"p1": Followed("approved", "j1")},
    }
    violated = kinds([job], done, calls, troubles=troubles, **more)
    assert violated == ([] if forgiven else ["twice"])


def test_jobs_do_not_share_an_approval() -> None:
    jobs = [request("approval", "a1"), request("approval", "a1", "j2")]
    done = status(State.DONE, instance_id="p1")
    known: Any = {
        "instances": {"a1": [instance("p1")]},
        "followed": {"p1": Followed("approved", "j1")},
    }
    assert kinds(jobs, {"j1": done, "j2": done}, **known) == ["shared"]


@pytest.mark.parametrize(
    ("truth", "known", "violated"),
    [
        (("COMPLETED", "refuse"), "refused", []),
        (("COMPLETED", "refuse"), "approved", ["unfollowed"]),
        (("TERMINATED", ""), "terminated", []),
        (("COMPLETED", "agree"), "running", ["unfollowed"]),
        (("COMPLETED", "agree"), None, ["unfollowed"]),
    ],
)
def test_how_an_approval_ended_is_known(
    truth: tuple[str, str], known: str | None, violated: list[str]
) -> None:
    job, done = request("approval", "a1"), {"j1": status(State.DONE, instance_id="p1")}
    followed = {"p1": Followed(known, "j1")} if known else {}
    more: Any = {"instances": {"a1": [instance("p1", *truth)]}, "followed": followed}
    assert kinds([job], done, ends={"j1": [(3.0, "w0")]}, **more) == violated
    assert kinds([job], done, ends={"j1": [(3.0, "w0")]}, forgotten=[(2.0, 2.5)], **more) == []
    assert (
        kinds([job], done, ends={"j1": [(3.0, "w0")]}, forgotten=[(9.0, 9.5)], **more) == violated
    )


def test_a_deleted_approval_is_known_to_be_deleted() -> None:
    job, done = request("approval", "a1"), {"j1": status(State.DONE, instance_id="p1")}
    followed = {"p1": Followed("deleted", "j1")}
    assert "unfollowed" not in kinds([job], done, followed=followed)


def test_a_robots_message_is_in_the_group_once() -> None:
    job = request("robot", "r1", digest=None)
    assert kinds([job], DONE, posts={}) == ["lost"]
    assert kinds([job], DONE, posts={"r1": [2.0]}) == []
    assert kinds([job], DONE, posts={"r1": [2.0, 3.0]}) == ["twice"]
    requeue = Command(2.0, "requeue", "j1", "True")
    assert kinds([job], DONE, posts={"r1": [2.0, 3.0]}, commands=[requeue]) == []


def test_a_message_is_in_one_digest_unless_redis_forgot_in_which() -> None:
    job = request("robot", "r1", digest="3s")
    assert kinds([job], DONE, posts={"r1": [2.0, 6.0]}) == ["twice"]
    assert kinds([job], DONE, posts={"r1": [2.0, 6.0]}, forgotten=[(2.0, 3.0)]) == []
    assert kinds([job], DONE, posts={"r1": [2.0, 6.0]}, forgotten=[(7.0, 8.0)]) == ["twice"]


def broadcast(outcome: str, state: str = "done", **totals: int) -> Broadcast:
    result: Any = SimpleNamespace(userid="u1", outcome=outcome)
    counted = {"recipients": 1, "accepted": 1, "left_out": 0, "failed": 0, **totals}
    return Broadcast(1, "b1", ("u1",), "campaign-1", True, state, counted, [result])


@pytest.mark.parametrize(
    ("report", "times", "violated"),
    [
        (broadcast("accepted"), 1, []),
        (broadcast("accepted"), 0, ["campaign"]),
        (broadcast("failed", accepted=0, failed=1), 1, ["campaign"]),
        (broadcast("accepted", "running"), 1, ["open"]),
        (broadcast("accepted", accepted=0), 1, ["sums"]),
    ],
)
def test_a_campaigns_report_is_true(report: Broadcast, times: int, violated: list[str]) -> None:
    effects = [effect(2.0 + number, answered=3.0, tag="b1 u1") for number in range(times)]
    assert kinds([], {}, effects, broadcasts=[report]) == violated


def test_a_campaign_that_ends_early_does_not_know_of_a_call_that_redis_forgot() -> None:
    report = broadcast("cancelled", "cancelled")
    call = effect(2.0, answered=2.1, tag="b1 u1")
    assert kinds([], {}, [call], broadcasts=[report]) == ["campaign"]
    assert kinds([], {}, [call], broadcasts=[report], forgotten=[(1.5, 2.2)]) == []
    assert kinds([], {}, [call], broadcasts=[report], forgotten=[(3.0, 4.0)]) == ["campaign"]


def test_a_campaign_names_its_people_and_reaches_each_once() -> None:
    other = broadcast("accepted")
    other.users = ("u1", "u2")
    assert "people" in kinds([], {}, [effect(2.0, tag="b1")], broadcasts=[other])
    effects = [effect(2.0, tag="b1"), effect(3.0, tag="b1")]
    assert kinds([], {}, effects, broadcasts=[broadcast("accepted")]) == ["campaign"]


def test_a_call_of_a_campaign_is_made_again_whose_end_redis_forgot() -> None:
    report = broadcast("accepted")
    calls = [effect(2.0, answered=2.1, tag="b1 u1"), effect(9.0, answered=9.1, day=1, tag="b1 u1")]
    assert kinds([], {}, calls, broadcasts=[report]) == ["campaign"]
    assert kinds([], {}, calls, broadcasts=[report], forgotten=[(1.8, 2.2)]) == []
    assert kinds([], {}, calls, broadcasts=[report], forgotten=[(8.8, 9.2)]) == ["campaign"]


PAUSE, RESUME = Order("pause", 1.5, 1.6, done=True), Order("resume", 8.0, 8.1, done=True)


@pytest.mark.parametrize(
    ("run", "orders", "violated"),
    [
        (2.0, [PAUSE], ["stopped"]),
        (1.55, [PAUSE], []),
        (2.0, [PAUSE, RESUME], ["stopped"]),
        (2.0, [PAUSE, replace(RESUME, at=2.9)], []),
        (2.0, [PAUSE, replace(RESUME, at=2.9, done=False)], []),
        (2.0, [replace(PAUSE, done=False)], []),
        (2.0, [replace(PAUSE, verb="recall")], []),
        (2.0, [replace(PAUSE, verb="cancel"), RESUME], ["stopped"]),
    ],
)
def test_a_campaign_that_is_stopped_makes_no_call(
    run: float, orders: list[Order], violated: list[str]
) -> None:
    report, call = broadcast("accepted"), effect(3.0, tag="b1", answered=3.1)
    report.orders = orders
    ran = ChunkRun(run, "w0", "campaign-1", frozenset({"u1", "u2"}))
    for others in (
        {"campaign": "other"},
        {"at": 3.1},
        {"until": 2.9},
        {"worker": "w1"},
        {"users": frozenset()},
    ):
        runs = [replace(ran, **others)]
        assert kinds([], {}, [call], broadcasts=[report], chunk_runs=runs) == []
    assert kinds([], {}, [call], broadcasts=[report], chunk_runs=[ran]) == violated
    # One more message about it finds the run under way.
    met = replace(ran, at=2.99)
    assert kinds([], {}, [call], broadcasts=[report], chunk_runs=[ran, met]) == violated


def test_the_directory_equals_the_organisation_after_the_last_sync() -> None:
    sync = request("sync", "")
    true = {"u1": ("A", [1]), 1: ("root", 0)}
    done = {"j1": status(State.DONE)}
    equal = Directories("j1", true, {**true})
    assert kinds([sync], done, directories=equal) == []
    other = Directories("j1", true, {**true, "u1": ("A", [2])})
    assert kinds([sync], done, directories=other) == ["directory"]
    assert kinds([sync], {"j1": status(State.DEAD)}, directories=equal) == ["unsynced"]


@pytest.mark.parametrize(
    ("absence", "violated"), [((1.0, 9.0), []), ((1.0, 2.0), ["left"]), ((6.0, 9.0), ["left"])]
)
def test_nobody_who_is_there_is_marked_as_left(
    absence: tuple[float, float], violated: list[str]
) -> None:
    found = Directories(absences={"u21": [absence]}, left=[Leaving("u21", 3.0, 5.0)])
    assert kinds([], {}, directories=found) == violated


def test_a_call_is_taken_back_only_with_all_that_it_carried() -> None:
    jobs = [request(users=["u1"]), request("recall", "", "j2", of="j1", users=[])]
    states = {"j1": status(State.DONE, calls=1), "j2": status(State.DONE, recalled=[7])}
    call = [effect(2.0, answered=2.1)]
    assert kinds(jobs, states, call, recalled={7: ("m1", {"u1"})}) == []
    assert kinds(jobs, states, call, recalled={7: ("m1", {"u1", "u2"})}) == ["recalled"]
    assert kinds(jobs[:1], DONE, call, recalled={7: ("m1", {"u1"})}) == ["recalled"]
    assert kinds(jobs, states, call) == ["untrue"]


SECRET = "whsec_" + base64.b64encode(b"secret").decode()


def delivery(state: str = "done", *, key: bytes = b"secret", taken: bool = True) -> Delivery:
    at = datetime.fromtimestamp(CLOCK.epoch + 2.5, UTC).isoformat()
    document = {"type": f"job.{state}", "timestamp": at, "data": {"id": "j1"}}
    body = json.dumps(document).encode()
    digest = hmac.digest(key, b"msg_1.1." + body, hashlib.sha256)
    signature = "v1," + base64.b64encode(digest).decode()
    return Delivery(3.0, "e1", "msg_1", "1", signature, body, taken)


def heard(*deliveries: Delivery, **more: Any) -> list[str]:
    """Kinds of what is violated where one endpoint gets these of a message that is done."""
    settled = datetime.fromtimestamp(CLOCK.epoch + 2.5, UTC)
    done = SimpleNamespace(state=State.DONE, result={}, id="j1", error="", settled_at=settled)
    endpoint = Endpoint("e1", ("job.*",), "drw_1", 1.0, [(1.0, SECRET)])
    more = {"deliveries": deliveries, "endpoints": {"e1": endpoint}, **more}
    return kinds([request()], {"j1": done}, [effect(2.0, answered=2.1)], **more)


def test_an_endpoint_gets_the_end_of_each_job_well_signed_and_true() -> None:
    assert heard(delivery()) == []
    assert heard() == ["untold"]
    assert heard(delivery(taken=False)) == ["untold"]
    assert heard(delivery(key=b"another")) == ["signature"]
    assert heard(delivery("dead"), delivery()) == ["untrue", "changed"]
    requeue = Command(2.0, "requeue", "j1", "True")
    assert heard(delivery("dead"), commands=[requeue]) == ["untold"]


def crowd(*calls: tuple[float, str], jobs: int = 60) -> list[str]:
    """Kinds of what is violated where two senders' jobs come at once, and are called so."""
    requests = [
        request("burst", f"{sender}/{number}", f"j{number}", users=[sender])
        for number in range(jobs)
        for sender in ["team" + str(number % 2)]
    ]
    states = {one.job: status(State.DONE) for one in requests}
    runs = {one.job: [Run(1.0, "w0")] for one in requests}
    pending = {
        sender: [one.tag for one in requests if one.values["users"] == [sender]]
        for sender in ("team0", "team1")
    }
    effects = [
        effect(at, answered=at + 0.1, tag=pending[sender].pop(), users=(sender,), path=READ)
        for at, sender in calls
    ]
    return kinds(requests, states, effects, runs=runs, limit=2)


def test_senders_take_turns() -> None:
    in_turn = [(1.5 + number / 2, f"team{number % 2}") for number in range(60)]
    assert crowd(*in_turn) == []
    in_rows = [(1.5 + number / 2, f"team{number // 60}") for number in range(120)]
    assert crowd(*in_rows, jobs=120) == ["turns"]


def test_the_limit_is_used_while_jobs_wait() -> None:
    slow = [(1.5 + number, f"team{number % 2}") for number in range(60)]
    assert crowd(*slow) == ["unused"]
    missing = [(1.5 + number / 2, f"team{number % 2}") for number in range(58)]
    assert crowd(*missing) == ["lost", "lost"]


def test_dingtalk_drops_nothing_in_silence() -> None:
    first = effect(2.0, answered=2.1)
    assert "limit" in kinds([request()], DONE, [effect(2.0, dropped={"u1": "143105"})])
    assert "limit" in kinds([request()], DONE, [effect(2.0, dropped={"u1": "143103"})])
    held_up = [Trouble("redis slow", "redis", 1.0, 2.0)]
    beyond = effect(2.0, answered=2.1, dropped={"u1": "143103"})
    assert kinds([request()], DONE, [beyond], troubles=held_up) == []
    for left, answered, is_wrong in ((1.0, 3.0, False), (1.0, 1.9, True), (1.7, 3.0, True)):
        other = effect(1.8, left=left, answered=answered, tag="m2")
        assert ("limit" in kinds([request()], DONE, [beyond, other])) == is_wrong
    copy = effect(5.0, answered=5.1, dropped={"u1": "143106"})
    assert kinds([request()], DONE, [first, copy]) == ["again", "dropped"]
    killed = [Trouble("kill", "w0", 2.05, 9.0)]
    assert kinds([request()], DONE, [first, copy], troubles=killed) == []


def test_a_key_has_an_end() -> None:
    assert kinds([], {}, keys_without_end=["dingrelay:x"]) == ["key"]


def test_the_text_of_a_call_is_read_from_its_body() -> None:
    body = {"userid_list": "u1,u2", "msg": {"msgtype": "text", "text": {"content": "m1"}}}
    assert read_tag(ASYNCSEND, body) == ("m1", ("u1", "u2"))
    form = {"formComponentValues": [{"name": "事由", "value": "a1"}]}
    assert read_tag("/v1.0/workflow/processInstances", form) == ("a1", ())
    call = {"userIds": ["u1"], "msgParam": '{"content": "c1"}'}
    assert read_tag(BATCH_SEND, call) == ("c1", ("u1",))
    assert read_tag("/gettoken", None) == ("", ())


def test_no_job_of_a_paused_lane_begins() -> None:
    pause = LanePause("bulk", 5.0, 20.0)

    def judge(left: float, began: float, lane: str = "bulk", **more: Any) -> list[str]:
        calls = [effect(left, answered=left + 0.1)]
        runs = {"j1": [Run(began, "w0")]}
        return kinds([request(lane=lane)], DONE, calls, runs=runs, lane_pauses=[pause], **more)

    assert judge(7.0, 6.9) == ["paused"]
    assert judge(7.0, 6.9, lane="normal") == []
    assert judge(7.0, 4.9) == []
    assert judge(21.0, 20.9) == []
    assert judge(7.0, 6.9, forgotten=[(4.0, 5.5)]) == []
    assert judge(7.0, 6.9, troubles=[Trouble("kill", "w0", 6.0, 6.5)]) == ["paused"]


def test_a_job_goes_on_in_a_pause_whose_call_may_have_been_carried_out() -> None:
    pauses = [LanePause("all", 5.0, 20.0)]
    runs = {"j1": [Run(3.9, "w0", until=4.2), Run(9.0, "w1")]}
    again = effect(9.1, answered=9.2, worker="w1")
    lost = [effect(4.0, spoilt=True), again]
    refused = [effect(4.0, answered=4.1, verdict="throttled"), again]
    for calls, violated in ((lost, []), (refused, ["paused"])):
        one = request(lane="bulk")
        assert kinds([one], DONE, calls, runs=runs, lane_pauses=pauses) == violated


def test_a_job_goes_on_in_a_pause_of_which_the_release_before_left_an_open_call() -> None:
    pauses, runs = [LanePause("all", 5.0, 20.0)], {"j1": [Run(9.0, "w1")]}
    job, call = request(lane="bulk"), effect(9.1, answered=9.2, worker="w1")
    for open_call, violated in ((True, []), (False, ["paused"])):
        left = replace(job, open_call=open_call)
        assert kinds([left], DONE, [call], runs=runs, lane_pauses=pauses) == violated
    left, answered = replace(job, open_call=True), effect(4.0, answered=4.1)
    assert "paused" in kinds([left], DONE, [answered, call], runs=runs, lane_pauses=pauses)


def test_a_record_of_the_release_before_says_whether_a_call_may_be_open() -> None:
    # Two approvals say nothing of a call, and are of another Redis, which may have forgotten it.
    assert {left.tag for left in upgrade.requests() if left.open_call} == {"o4", "o8", "o9", "o10"}
