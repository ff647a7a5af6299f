"""Reports of an approval lead to the same, in whatever order they come."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.settings.sections import LOOKS
from dingrelay_tasks.context import ApprovalChange, ApprovalTask
from dingrelay_workers.approvals.merge import RUNNING, merge

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
PAUSES = [timedelta(seconds=seconds) for seconds in LOOKS]
ENDS = ("approved", "refused", "terminated")


def report(source: str, state: str | None, tasks: Sequence[tuple[int, str]] = ()) -> ApprovalChange:
    listed = [ApprovalTask(id=str(number), user="boss", state=each) for number, each in tasks]  # type: ignore[arg-type]
    return ApprovalChange(instance="i1", source=source, state=state, tasks=listed)  # type: ignore[arg-type]


def merged(reports: Sequence[ApprovalChange]) -> tuple[dict[str, Any], dict[str, str]]:
    """The row and its tasks after reports a minute apart, each checked to have a look-up ahead or none."""
    names = ("template", "originator", "title", "business_id", "link")
    row: dict[str, Any] = {**dict.fromkeys(names, ""), "created_at": None, "finished_at": None}
    row |= {"state": RUNNING, "source": "job", "changed_at": AT, "looks": 0, "look_at": AT}
    tasks: dict[str, dict[str, Any]] = {}
    for minutes, each in enumerate(reports):
        at = AT + timedelta(minutes=minutes)
        _, news, values = merge(row, list(tasks.values()), each, at=at, looks=PAUSES)
        row |= values
        for task in news:
            tasks[task.id] = {
                "task": task.id,
                "user": task.user,
                "state": task.state,
                "since": None,
            }
        if each.source == "look":
            assert row["look_at"] is None or row["look_at"] >= at + PAUSES[0]
        elif row["state"] == RUNNING:
            assert row["look_at"] > at
    return row, {number: task["state"] for number, task in tasks.items()}


states = st.sampled_from([RUNNING, *ENDS, "deleted", None])
reports = st.lists(st.builds(report, st.sampled_from(["event", "look"]), states), max_size=6)


@given(st.data())
def test_the_state_does_not_depend_on_the_order_of_reports(data: st.DataObject) -> None:
    given_ = data.draw(reports)
    shuffled = data.draw(st.permutations(given_))
    first, second = merged(given_)[0], merged([*shuffled, *shuffled])[0]
    assert first["state"] == second["state"]
    if first["state"] == "deleted":
        assert first["source"] == second["source"]


@given(st.data(), st.sampled_from(ENDS), st.booleans())
def test_any_order_ends_the_same(data: st.DataObject, end: str, denied: bool) -> None:
    tasks = [(1, "agreed"), (2, "cancelled"), (3, "redirected")]
    story = [
        report("event", RUNNING),
        *(report("event", None, [(number, RUNNING)]) for number, _ in tasks),
        *(report("event", None, [task]) for task in tasks),
        report("event", end),
        report("look", RUNNING, [(1, "agreed"), (2, RUNNING)]),
    ]
    if denied:
        story.append(report("look", "deleted"))
    row, known = merged(data.draw(st.permutations(story)))
    assert (row["state"], known) == (end, {str(number): state for number, state in tasks})
    assert row["look_at"] is None


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ([report("look", "deleted"), report("event", RUNNING)], "deleted"),
        ([report("look", "deleted"), report("event", "approved")], "approved"),
        ([report("look", "deleted"), report("look", "refused")], "refused"),
        ([report("event", "approved"), report("look", "deleted")], "approved"),
        ([report("event", "approved"), report("event", "deleted")], "deleted"),
    ],
)
def test_ends_outrank_denials(changes: Sequence[ApprovalChange], state: str) -> None:
    assert merged(changes)[0]["state"] == state
