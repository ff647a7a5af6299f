"""Celery's events of a run, and so Flower's view."""

from typing import Any

import pytest
from celery.events.state import State as EventsState
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.store.states import State
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.celery_worker.task_events import SHOWN, TaskEvents, words
from dingrelay_workers.jobs.outcome import Outcome, done
from support.examples import json_values
from support.jobs import a_claim

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
    events, dispatcher = TaskEvents(), Dispatcher()
    claim = a_claim(attempts=2, summary="message-send app=default lane=normal text users=2")
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


@given(st.dictionaries(st.sampled_from(["calls", "x_id", "a", "users"]) | st.text(), json_values()))
def test_no_result_fails_the_run(result: dict[str, Any]) -> None:
    text = words(done(result), State.DONE)
    assert isinstance(text, str)
    assert len(text) <= SHOWN
