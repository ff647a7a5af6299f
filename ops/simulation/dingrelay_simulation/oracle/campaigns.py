"""Campaigns: their people get the message once each, or are named with a true reason; the report adds up."""

from collections import defaultdict
from collections.abc import Iterator

from dingrelay_simulation.campaigns import ENDS, Broadcast
from dingrelay_simulation.oracle.evidence import Evidence, Violation

NOT_SENT = frozenset({"cancelled", "failed", "pending", "unknown_user", "out_of_scope"})
"""Outcomes that say: no call was made for this person."""
REACHED = frozenset({"accepted", "duplicate"})
"""Outcomes that say: this person got it."""


def check_campaigns(evidence: Evidence) -> Iterator[Violation]:
    """Every campaign ends, names all of its people, and is right about each."""
    received: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for effect in evidence.effects:
        # What a limit dropped in silence no report can tell; `limits.py` judges whether it may.
        for user in (*effect.delivered, *effect.over_limit):
            received[effect.tag.split(" ", maxsplit=1)[0]][user] += 1
    for broadcast in evidence.broadcasts:
        if broadcast.id:
            yield from _check_campaign(broadcast, received[broadcast.tag])


def _check_campaign(broadcast: Broadcast, received: dict[str, int]) -> Iterator[Violation]:
    name, about = f"campaign {broadcast.tag}", broadcast.id
    if broadcast.state not in ENDS:
        yield Violation("open", f"{name} is {broadcast.state} for ever", about)
    outcomes = {result.userid: result.outcome for result in broadcast.people}
    if sorted(outcomes) != sorted(broadcast.users):
        yield Violation("people", f"{name} has other people than requested", about)
    for user in broadcast.users:
        times, outcome = received.get(user, 0), outcomes.get(user, "missing")
        untrue = (outcome in REACHED and not times) or (outcome in NOT_SENT and times)
        if times > 1 or untrue:
            text = f"{name} says {outcome} of {user}, who got it {times} times"
            yield Violation("campaign", text, about)
    totals = broadcast.totals
    total = sum(totals.get(name, 0) for name in ("accepted", "left_out", "failed"))
    if broadcast.state == "done" and total != totals.get("recipients"):
        yield Violation("sums", f"{name} is done with {totals}", about)
