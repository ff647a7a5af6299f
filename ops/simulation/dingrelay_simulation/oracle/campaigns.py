"""Campaigns: their people get the message once each, or are named with a true reason; the report adds up."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dingrelay_simulation.campaigns import ENDS, Broadcast
from dingrelay_simulation.fleet import ChunkRun
from dingrelay_simulation.oracle.evidence import Effect, Evidence, Violation

NOT_SENT = frozenset({"cancelled", "failed", "pending", "unknown_user", "out_of_scope"})
"""Outcomes that say: no call was made for this person."""
REACHED = frozenset({"accepted", "duplicate"})
"""Outcomes that say: this person got it."""


def check_campaigns(evidence: Evidence) -> Iterator[Violation]:
    """Every campaign ends, names all of its people, and is right about each, unless Redis forgot the call."""
    received: dict[str, dict[str, list[Effect]]] = defaultdict(lambda: defaultdict(list))
    for effect in evidence.effects:
        # What a limit dropped in silence no report can tell; `limits.py` judges whether it may.
        for user in (*effect.delivered, *effect.over_limit):
            received[effect.tag.split(" ", maxsplit=1)[0]][user].append(effect)
    for broadcast in evidence.broadcasts:
        if broadcast.id:
            yield from _check_campaign(evidence, broadcast, received[broadcast.tag])


def check_stopped(evidence: Evidence) -> Iterator[Violation]:
    """No run makes a call that begins while its campaign is paused or cancelled."""
    campaigns = {broadcast.tag: broadcast for broadcast in evidence.broadcasts}
    for call in evidence.attempts:
        broadcast = campaigns.get(call.tag.split(" ", maxsplit=1)[0])
        if broadcast is None:
            continue
        run = _run_of(evidence.chunk_runs, broadcast.id, call)
        if run is None:
            continue
        for since, until in _stopped(broadcast):
            if since < run.at and call.left < until:
                text = f"campaign {broadcast.tag} was stopped at {since:.2f} and called at {call.left:.2f}"
                yield Violation("stopped", text, broadcast.id)


def _run_of(runs: Sequence[ChunkRun], campaign: str, call: Effect) -> ChunkRun | None:
    """The first of the runs for a call's people that were under way when it left: a later one has met it, and ended."""
    under_way = (
        run
        for run in runs
        if run.campaign == campaign
        and run.made(call.worker, call.left)
        and run.users.issuperset(call.users)
    )
    return min(under_way, key=lambda run: run.at, default=None)


def _stopped(broadcast: Broadcast) -> Iterator[tuple[float, float]]:
    """The times in which it was certainly paused or cancelled: from a command's answer to the next one that lets it go on."""
    for order in broadcast.orders:
        if order.done and order.verb in {"pause", "cancel"}:
            going_on = (
                other.at
                for other in broadcast.orders
                if other.verb in {"resume", "start"} and other.answered > order.at
            )
            yield order.answered, min(going_on, default=math.inf)


def _check_campaign(
    evidence: Evidence, broadcast: Broadcast, received: Mapping[str, Sequence[Effect]]
) -> Iterator[Violation]:
    name, about = f"campaign {broadcast.tag}", broadcast.id
    if broadcast.state not in ENDS:
        yield Violation("open", f"{name} is {broadcast.state} for ever", about)
    outcomes = {result.userid: result.outcome for result in broadcast.people}
    if sorted(outcomes) != sorted(broadcast.users):
        yield Violation("people", f"{name} has other people than requested", about)
    for user in broadcast.users:
        calls, outcome = received.get(user, ()), outcomes.get(user, "missing")
        remembered = [not evidence.forgotten_call(call) for call in calls]
        untrue = (outcome in REACHED and not calls) or (outcome in NOT_SENT and any(remembered))
        # A call that Redis forgot is made again.
        if any(remembered[:-1]) or untrue:
            text = f"{name} says {outcome} of {user}, who got it {len(calls)} times"
            yield Violation("campaign", text, about)
    totals = broadcast.totals
    total = sum(totals.get(name, 0) for name in ("accepted", "left_out", "failed"))
    if broadcast.state == "done" and total != totals.get("recipients"):
        yield Violation("sums", f"{name} is done with {totals}", about)
