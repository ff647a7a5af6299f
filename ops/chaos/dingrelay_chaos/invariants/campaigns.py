"""5: a campaign's people get it once each, or are named with a true reason; its report adds up."""

from collections import Counter
from collections.abc import Iterator

from dingrelay_chaos.dingtalk import text_of
from dingrelay_chaos.evidence import USER_DAY, CampaignEvidence, Evidence, Finding
from dingrelay_chaos.operations import Broadcast
from dingrelay_chaos.requests import Request

NOT_SENT = frozenset({"cancelled", "failed", "pending", "unknown_user", "out_of_scope"})
"""Outcomes that say: no call was made for this person."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Campaigns that hang, miss people or report what is not true."""
    for request in evidence.requests.campaigns:
        found = evidence.campaigns.get(request.job)
        if found is not None:
            yield from _state(request, found)
            yield from _people(evidence, request, found)
            yield from _sums(request, found)


def _state(request: Request[Broadcast], found: CampaignEvidence) -> Iterator[Finding]:
    state, reason = found.row["state"], found.row["reason"]
    if state not in {"done", "cancelled", "draft"}:
        text = f"campaign {request.job} is {state} for ever ({reason}): {found.row['settled']}"
        yield f"{text} of {found.row['chunks']} chunks", request.job
    if state == "draft" and request.accepted == "yes":
        yield f"campaign {request.job} was started and is a draft", request.job


def _people(
    evidence: Evidence, request: Request[Broadcast], found: CampaignEvidence
) -> Iterator[Finding]:
    snapshot = evidence.snapshot
    outcomes = {each["userid"]: each for each in found.people}
    users = dict.fromkeys(request.what.users)
    if sorted(outcomes) != sorted(users):
        yield f"campaign {request.job} has other people than asked", request.job
    entries = [
        entry
        for entry in snapshot.entries
        if text_of(entry).split(" ")[:2] == request.what.tag.split(" ")
    ]
    arrived = Counter(entry["user"] for entry in entries if not entry["reason"])
    uncounted = {each["user"] for each in snapshot.entries if each["call_id"] in evidence.uncounted}
    dropped = uncounted | {
        each["user"] for each in entries if (text_of(each), each["user"]) in evidence.beyond_the_day
    }
    for user in users:
        times, outcome = arrived[user], outcomes.get(user, {}).get("outcome", "missing")
        text = f"campaign {request.job} says {outcome} of {user}"
        if times > 1:
            yield f"{text}, who has it {times} times", request.job
        if outcome == "accepted" and not times and user not in dropped:
            yield f"{text}, who never got it", request.job
        if outcome == "duplicate" and not times and user not in dropped:
            yield f"{text}, who has none", request.job
        received = snapshot.received(user)
        if outcome == "daily_cap" and received < USER_DAY:
            yield f"{text}, who had {received} messages only", request.job
        if outcome in NOT_SENT and times and user not in uncounted:
            yield f"{text}, who has it", request.job


def _sums(request: Request[Broadcast], found: CampaignEvidence) -> Iterator[Finding]:
    counted = Counter(each["outcome"] for each in found.people)
    outcomes = {name: count for name, count in found.summary["outcomes"].items() if count}
    if dict(counted) != outcomes:
        text = f"campaign {request.job} counts {outcomes}, its people are {dict(counted)}"
        yield text, request.job
    row = found.row
    total = row["accepted"] + row["left_out"] + row["failed"]
    if row["state"] == "done" and total != row["recipients"]:
        text = f"campaign {request.job} is done with {total} of {row['recipients']} people"
        yield text, request.job
