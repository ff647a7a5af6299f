"""What Celery, and so Flower, is told of a run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.store.states import State
from dingrelay_workers.celery_worker.task import LEFT, SHOWN, JobFailed, JobWaits, in_celerys_words
from dingrelay_workers.jobs.outcome import Outcome, done

MESSAGE = {
    "calls": [{"task_id": 7, "recipients": 2}, {"task_id": 8, "recipients": 1}],
    "accepted": 3,
    "invalid": [],
    "duplicate": ["u4", "u5"],
}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (MESSAGE, "done task_id=7,8 accepted=3 duplicate=2"),
        ({"instance_id": "abc"}, "done instance_id=abc"),
        ({"users": 200, "departments": 0, "calls": 3, "kept": True}, "done users=200 calls=3"),
        ({"answer": {"mobile": "13800000000"}, "text": "private"}, "done"),
        ({}, "done"),
    ],
)
def test_a_result_is_numbers_and_ids(result: dict[str, Any], told: str) -> None:
    assert in_celerys_words(done(result)) == told


def test_other_ends_are_told_with_their_reason() -> None:
    waits = in_celerys_words(Outcome(State.SNOOZED, reason="the limit", delay=2))
    assert isinstance(waits, JobWaits)
    assert repr(waits) == "snoozed: the limit"
    failed = in_celerys_words(Outcome(State.DEAD, reason="quota"))
    assert isinstance(failed, JobFailed)
    assert repr(failed) == "dead: quota"
    assert in_celerys_words(Outcome(State.DUPLICATE, result=MESSAGE | {"calls": []})) == (
        "duplicate accepted=3 duplicate=2"
    )
    assert in_celerys_words(None) == LEFT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["calls", "x_id", "a", "users"]) | st.text(), JSON))
def test_no_result_fails_the_run(result: dict[str, Any]) -> None:
    told = in_celerys_words(done(result))
    assert isinstance(told, str)
    assert len(told) <= SHOWN
