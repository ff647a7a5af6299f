"""What Celery's events, and so Flower, tell of a run."""

import uuid
from typing import Any

import pytest
from celery.events.state import State as EventsState
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.store.states import State
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.celery_worker.task_events import SHOWN, TaskEvents, words
from dingrelay_workers.jobs.outcome import Outcome, done
from dingrelay_workers.store.records import Claim, RedisTime

MESSAGE = {
    "calls": [{"task_id": 7, "recipients": 2}, {"task_id": 8, "recipients": 1}],
    "accepted": 3,
    "invalid": [],
    "duplicate": ["u4", "u5"],
}
KIND = KINDS["message-send"]


class Dispatcher:
    """Hands events to what Flower keeps of them."""

    def __init__(self) -> None:
        self.tasks = EventsState()
        self.sent: list[str] = []

    def send(self, event: str, **fields: Any) -> None:
        self.sent.append(event)
        clock = len(self.sent)
        origin = {"hostname": "w", "local_received": 1.0}
        self.tasks.event({"type": event, "clock": clock, **origin, **fields})


def a_claim() -> Claim:
    return Claim(
        id=str(uuid.uuid4()),
        kind="message-send",
        nonce="n",
        fence=1,
        app="default",
        lane="normal",
        sender="",
        payload={},
        parent="",
        attempts=2,
        throttles=0,
        crashes=0,
        expires=None,
        waiting=0,
        intent=None,
        steps={},
        created=1,
        time=RedisTime(1),
        summary="message-send app=default lane=normal text users=2",
    )


@pytest.mark.parametrize(
    ("outcome", "state", "shown", "text"),
    [
        (done(MESSAGE), State.DONE, "SUCCESS", "done task_id=7,8 accepted=3 duplicate=2"),
        (Outcome(State.DUPLICATE), State.DUPLICATE, "SUCCESS", "duplicate"),
        (Outcome(State.DEAD, reason="quota"), State.DEAD, "FAILURE", "dead: quota"),
        (Outcome(State.SNOOZED, reason="limit"), State.SNOOZED, "RETRY", "snoozed: limit"),
        (Outcome(State.QUEUED, reason="stops"), State.QUEUED, "RETRY", "queued: stops"),
        (Outcome(State.SNOOZED, reason="limit"), State.CANCELLED, "REVOKED", None),
    ],
)
def test_a_run_is_one_story(outcome: Outcome, state: State, shown: str, text: str | None) -> None:
    events, dispatcher, claim = TaskEvents(), Dispatcher(), a_claim()
    events.send_through(dispatcher)
    events.began(KIND, claim)
    events.flush()
    task = dispatcher.tasks.tasks[claim.id]
    assert (task.state, task.name, task.kwargs) == ("STARTED", KIND.task, claim.summary)
    assert task.retries == 2
    events.ended(KIND, claim, outcome, state, 0.5)
    events.flush()
    assert dispatcher.tasks.tasks[claim.id].state == shown
    assert (task.result or task.exception) == text
    assert task.runtime == (0.5 if shown == "SUCCESS" else None)
    assert dispatcher.sent[:2] == ["task-received", "task-started"]
    assert len(dispatcher.sent) == 3


def test_without_a_connection_nothing_is_sent() -> None:
    events = TaskEvents()
    events.began(KIND, a_claim())
    events.send_through(None)
    events.ended(KIND, a_claim(), done({}), State.DONE, 0.1)
    events.flush()


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (MESSAGE, "done task_id=7,8 accepted=3 duplicate=2"),
        ({"instance_id": "abc"}, "done instance_id=abc"),
        ({"users": 200, "departments": 0, "calls": 3, "kept": True}, "done users=200 calls=3"),
        ({"answer": {"mobile": "13800000000"}, "text": "private"}, "done"),
        ({}, "done"),
    ],
)
def test_a_result_is_numbers_and_ids(result: dict[str, Any], text: str) -> None:
    assert words(done(result), State.DONE) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["calls", "x_id", "a", "users"]) | st.text(), JSON))
def test_no_result_fails_the_run(result: dict[str, Any]) -> None:
    text = words(done(result), State.DONE)
    assert isinstance(text, str)
    assert len(text) <= SHOWN
