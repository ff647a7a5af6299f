"""Makes a failing plan small: operations and faults are dropped while the same kind of violation stays."""

from dingrelay_simulation.plan import Plan
from dingrelay_simulation.run import Result, Runner


def shrink(runs: Runner, result: Result) -> Result:
    """The smallest plan that still fails, and its run."""
    kinds = {violation.kind for violation in result.violations}
    best = result
    for faults in (True, False, True):
        size = max(1, len(_steps(best.plan, faults=faults)) // 2)
        while size:
            start = 0
            while start < len(_steps(best.plan, faults=faults)):
                dropped = frozenset(range(start, start + size))
                tried = runs.run(best.plan.without(dropped, faults=faults))
                if kinds & {violation.kind for violation in tried.violations}:
                    best = tried
                else:
                    start += size
            size //= 2
    return best


def _steps(plan: Plan, *, faults: bool) -> tuple[object, ...]:
    return plan.faults if faults else plan.operations
