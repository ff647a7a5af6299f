"""The table from errors to states."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from dingrelay_producers import Settings, SettingsError, State
from dingrelay_producers.store.states import OwnershipLost
from dingrelay_tasks import ContractError
from dingrelay_tasks.outcomes import Duplicate, Refused, Unknown, Wait
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    NotFound,
    Permanent,
    Permission,
    QuotaExhausted,
    Throttled,
    Transient,
)
from dingrelay_workers.jobs import outcome
from dingrelay_workers.limiter.slot import Draining, Outage, Parked
from dingrelay_workers.store.records import RedisTime
from support.jobs import a_claim

SETTINGS = Settings.load(env="test")
CLAIM = a_claim()


def led_to(error: Exception, *, open_call: bool = False, **claim: Any) -> outcome.Outcome:
    return outcome.of(error, replace(CLAIM, **claim), SETTINGS, open_call=open_call)


def test_a_duplicate_says_why_and_what_to_do() -> None:
    error = led_to(Duplicate({"accepted": 0})).error or {}
    assert error["code"] == "duplicate"
    assert "once a day" in error["hint"]
    assert "--allow-duplicate" in error["hint"]


@pytest.mark.parametrize(
    ("error", "state", "attempts"),
    [
        (ContractError("to", "is missing"), State.DEAD, 1),
        (Refused("code", "reason", "hint"), State.DEAD, 1),
        (Unknown("reason"), State.UNKNOWN, 0),
        (Duplicate({"accepted": 0}), State.DUPLICATE, 1),
        (Wait(timedelta(seconds=9), "children"), State.SNOOZED, 0),
        (Parked(3.0, "the limit"), State.SNOOZED, 0),
        (Draining(), State.QUEUED, 0),
        (OwnershipLost(), State.RUNNING, 0),
        (RedisConnectionError("gone"), State.RETRYING, 0),
        (OperationalError("select 1", {}, Exception("locked")), State.RETRYING, 0),
        (InterfaceError("select 1", {}, Exception("closed")), State.RETRYING, 0),
        (NoConnectionLeft("of the pool"), State.RETRYING, 0),
        (IntegrityError("insert", {}, Exception("a bug of ours")), State.RETRYING, 1),
        (SettingsError("apps.x: no such app"), State.DEAD, 1),
        (Throttled("90018", "qps"), State.SNOOZED, 0),
        (Transient("-1", "busy"), State.RETRYING, 1),
        (Ambiguous("timeout", "no answer"), State.RETRYING, 1),
        (Permanent("40035", "bad"), State.DEAD, 1),
        (Credentials("40096", "bad key"), State.RETRYING, 0),
        (Outage("default message.send oapi", "api", "503", 1.0), State.SNOOZED, 0),
        (Permission("60011", "no scope"), State.DEAD, 1),
        (NotFound("33012", "stranger"), State.DEAD, 1),
        (QuotaExhausted("90020", "the month"), State.DEAD, 1),
        (TimeoutError(), State.RETRYING, 1),
        (ZeroDivisionError("a bug"), State.RETRYING, 1),
    ],
)
def test_every_error_leads_to_one_state(error: Exception, state: State, attempts: int) -> None:
    found = led_to(error)
    assert (found.state, found.attempts) == (state, attempts)
    if state in {State.DEAD, State.UNKNOWN}:
        assert found.error
        assert found.error["hint"] is not None
        assert found.error["class"]


def test_waiting_for_a_limit_costs_no_attempt_and_is_remembered() -> None:
    parked = led_to(Parked(3.0, "the limit"))
    assert (parked.delay, parked.waits_for_limit, parked.throttles) == (3.0, True, 0)
    throttled = led_to(Throttled("90018", "qps", pause=2.5))
    assert (throttled.delay, throttled.waits_for_limit, throttled.throttles) == (2.5, True, 1)


def test_a_job_throttled_too_often_is_dead() -> None:
    assert led_to(Throttled("90018", "qps"), throttles=199).state == State.SNOOZED
    dead = led_to(Throttled("90018", "qps"), throttles=200)
    assert dead.state == State.DEAD
    assert dead.error
    assert dead.error["class"] == "throttled"


def test_a_job_that_keeps_failing_ends_by_time_however_often_it_failed() -> None:
    busy, six_hours = Transient("-1", "busy"), SETTINGS.retry_for
    often = led_to(busy, attempts=10_000, retried=six_hours - 60)
    assert often.state == State.RETRYING
    assert often.delay <= 60
    ended = led_to(busy, attempts=1, retried=six_hours)
    assert (ended.state, ended.reason) == (State.DEAD, "failed for 6 h: busy")
    assert ended.error
    assert (ended.error["code"], ended.error["hint"]) == ("-1", outcome.GIVEN_UP_HINT)


def test_a_refused_look_up_keeps_the_job_retrying() -> None:
    refused = Permission("60011", "may not look it up")
    refused.of_read = True
    assert led_to(refused).state == State.DEAD
    assert led_to(refused, open_call=True).state == State.RETRYING
    long = SETTINGS.retry_for
    assert led_to(refused, open_call=True, retried=long).state == State.UNKNOWN


def test_a_refusal_of_one_call_of_the_users_own_ends_its_job() -> None:
    refused = Credentials("40089", "bad key")
    refused.verbatim = {"status": 200, "body": {"errcode": 40089}}
    assert led_to(refused).state == State.DEAD
    refused.outage = "default call.oapi oapi"
    assert led_to(refused).state == State.SNOOZED


def test_waiting_for_the_end_of_an_outage_ends_after_a_day() -> None:
    outage = Outage("default message.send oapi", "hold", "40096", 1.0)
    day = int(SETTINGS.max_age * 1000)
    ended = led_to(outage, started=1, time=RedisTime(1 + day))
    assert ended.state == State.DEAD
    assert ended.error
    assert ended.error["class"] == "outage"
    assert led_to(outage, started=1, time=RedisTime(day - 9000)).state == State.SNOOZED
    unknown = led_to(outage, started=1, time=RedisTime(1 + day), open_call=True)
    assert unknown.state == State.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        Ambiguous("timeout", "no answer"),
        Transient("-1", "busy"),
        Permission("60011", "may not look it up"),
        Refused("everyone_cap", "three times today", "tomorrow"),
        ContractError("form", "is none of the template's"),
        SettingsError("apps.x: has no agent id"),
    ],
)
def test_nothing_is_called_dead_while_a_call_has_no_answer(error: Exception) -> None:
    ended = led_to(error, retried=SETTINGS.retry_for, open_call=True)
    assert ended.state == State.UNKNOWN


def test_a_bug_shows_no_secret() -> None:
    found = led_to(RuntimeError("GET /x?access_token=abcdef123456 failed"))
    assert found.error
    assert "abcdef123456" not in str(found)


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(0, 1), (1, 2), (2, 4), (3, 8), (5, 32), (9, 512), (10, 600), (10_000, 600)],
)
def test_a_pause_is_twice_as_long_as_the_one_before(failures: int, pause: float) -> None:
    delays = [
        led_to(Transient("-1", "busy"), failures=failures, retried=failures).delay
        for _ in range(50)
    ]
    assert all(0.75 * pause <= delay <= pause for delay in delays)
    assert len(set(delays)) > 1, "jobs that failed together come apart"


def test_eight_failures_in_a_row_cost_some_two_minutes() -> None:
    waited = sum(outcome.backoff(failures) for failures in range(7))
    assert 90 <= waited <= 130


ABOUT_ONE = Transient("-1", "busy")


@pytest.mark.parametrize("kind", ["user-sync", "user-sync-department"])
def test_a_read_that_much_waits_for_is_repeated_within_half_a_minute(kind: str) -> None:
    assert led_to(ABOUT_ONE, kind=kind, failures=40).delay <= 30
    assert led_to(ZeroDivisionError("a bug"), kind=kind, failures=40).delay > 30


def test_the_look_up_of_a_lost_approval_is_repeated_within_half_a_minute() -> None:
    assert led_to(ABOUT_ONE, kind="approval-create", failures=40).delay > 30
    assert led_to(ABOUT_ONE, kind="approval-create", failures=40, open_call=True).delay <= 30
    assert led_to(ABOUT_ONE, kind="message-send", failures=40, open_call=True).delay > 30


def test_a_job_that_fails_alone_is_tried_some_fifty_times_in_six_hours() -> None:
    attempts, retried = 0, 0.0
    while retried < SETTINGS.retry_for:
        retried += outcome.backoff(attempts)
        attempts += 1
    assert 40 <= attempts <= 80


def test_a_job_that_is_too_late_after_a_lost_answer_is_unknown() -> None:
    assert outcome.expired(open_call=False).state == State.EXPIRED
    assert outcome.expired(open_call=True).state == State.UNKNOWN


@pytest.mark.parametrize(
    ("crashes", "losses", "poison"),
    [(2, 0, False), (3, 0, True), (2, 2, False), (2, 3, True), (0, 8, False), (0, 9, True)],
)
def test_an_idle_loss_is_a_third_of_a_crash(crashes: int, losses: int, *, poison: bool) -> None:
    claim = replace(CLAIM, crashes=crashes, losses=losses)
    assert outcome.is_poison(claim) == poison
    for open_call, state in ((False, State.DEAD), (True, State.UNKNOWN)):
        led_to = outcome.poison(claim, open_call=open_call)
        assert led_to.state == state
        assert f"{crashes + losses} workers" in led_to.reason


def test_a_lost_answer_outlasts_the_quota() -> None:
    error = QuotaExhausted("quota", "used up")
    waits = led_to(error, open_call=True)
    assert (waits.state, waits.delay) == (State.SNOOZED, outcome.QUOTA_PAUSE)
    assert led_to(error).state == State.DEAD
    old = {"started": 1, "time": RedisTime(int(SETTINGS.max_age * 1000) + 1)}
    assert led_to(error, open_call=True, **old).state == State.UNKNOWN
