"""Values that Celery's JSON adds become texts in a job; others are refused by name."""

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.wakeup import ReceivedWakeup, plain_json
from support.examples import SCALARS, json_values

MOMENT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
ID = uuid.UUID(int=7)
OF_CELERY = st.dates() | st.times() | st.decimals() | st.uuids() | st.binary()
VALUES = json_values(scalars=SCALARS | OF_CELERY | st.datetimes(timezones=st.just(UTC)), leaves=20)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MOMENT, "2026-11-25T09:30:00+00:00"),
        (date(2026, 11, 25), "2026-11-25"),
        (time(9, 30), "09:30:00"),
        (Decimal("3.50"), "3.50"),
        (ID, str(ID)),
        ("字".encode(), "字"),
    ],
)
def test_values_that_only_celery_can_carry_are_texts(value: object, text: str) -> None:
    assert plain_json({"form": [{"value": value}]}) == ({"form": [{"value": text}]}, None)


def test_plain_json_is_left_alone() -> None:
    job = {"to": {"users": ["u1"]}, "n": 1.5, "f": [True, None]}
    assert plain_json(job)[0] is job


def test_unencodable_characters_are_named_and_replaced() -> None:
    job, problem = plain_json({"to": "u1", "form": [{"value": b"\xff"}, {"value": {1, 2}}]})
    assert problem.field == "form.0.value"
    assert "bytes" in str(problem)
    assert job == {"to": "u1", "form": [{"value": "<bytes>"}, {"value": "<set>"}]}


def test_too_deep_nesting_is_refused() -> None:
    deep: Any = MOMENT
    for _ in range(100_000):
        deep = [deep]
    job, problem = plain_json(deep)
    assert problem is not None
    canonical_json(job)
    while deep is not MOMENT:  # taken apart by hand: Python would do it recursively
        (deep,) = deep


@given(st.dictionaries(st.text(), VALUES))
def test_any_message_of_a_celery_client_has_a_record(job: dict[str, Any]) -> None:
    request = {"id": "x", "args": [], "kwargs": loads(dumps({"job": job}))}
    wakeup = ReceivedWakeup.from_request(KINDS["message-send"], request)
    assert isinstance(wakeup.draft().payload, str)
