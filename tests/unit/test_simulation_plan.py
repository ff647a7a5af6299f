"""Plans follow from their seeds, and a failing one is made small."""

from typing import Any

from dingrelay_simulation import plan
from dingrelay_simulation.operations import JOBS, make_job
from dingrelay_simulation.oracle.evidence import SENDS, Violation
from dingrelay_simulation.plan import Plan
from dingrelay_simulation.run import Result, Trace
from dingrelay_simulation.shrink import shrink


class Runs:
    """Runs that fail as long as some steps are in the plan."""

    def __init__(self, needed: set[str], kind: str = "lost") -> None:
        self.needed = needed
        self.kind = kind
        self.runs = 0

    def run(self, planned: Plan) -> Result:
        self.runs += 1
        steps = {str(step) for step in (*planned.operations, *planned.faults)}
        violations = [Violation(self.kind, "it was")] if self.needed <= steps else []
        return Result(planned, Trace(), violations, jobs=0, seconds=0, steps=0, calls=0)


def plan_with_faults() -> Plan:
    return next(drawn for seed in range(1, 100) if len((drawn := plan.draw(seed)).faults) > 4)


def test_a_seed_stands_for_one_plan() -> None:
    assert plan.draw(17) == plan.draw(17)
    assert plan.draw(17) != plan.draw(18)


def test_each_job_of_a_plan_is_one_that_a_client_would_send() -> None:
    sent = set[str]()
    for seed in range(1, 40):
        for step in plan.draw(seed).operations:
            if step.name in SENDS | JOBS.keys():
                make_job(step.name, step.values)
                sent.add(step.name)
    assert sent >= {"send", "times", "call", "approval", "robot", "sync"}


def test_what_a_failure_does_not_need_is_dropped() -> None:
    whole = plan_with_faults()
    needed = {str(whole.operations[3]), str(whole.operations[-1]), str(whole.faults[2])}
    runs: Any = Runs(needed)
    smallest = shrink(runs, runs.run(whole))
    assert {str(step) for step in (*smallest.plan.operations, *smallest.plan.faults)} == needed
    assert [violation.kind for violation in smallest.violations] == ["lost"]


def test_a_smaller_plan_that_fails_otherwise_is_not_taken() -> None:
    whole = plan_with_faults()
    runs: Any = Runs(set(), kind="other")
    result = Result(
        whole, Trace(), [Violation("lost", "it was")], jobs=0, seconds=0, steps=0, calls=0
    )
    assert shrink(runs, result).plan == whole


def test_a_trace_has_another_hash_if_one_line_is_another() -> None:
    one, same, other = Trace(), Trace(), Trace()
    one.note("sent", "m1")
    same.note("sent", "m1")
    other.note("sent", "m2")
    assert one.hash == same.hash != other.hash
