"""5: a campaign's people get it once each, or are named with a true reason; its report adds up."""

from collections import Counter
from collections.abc import Iterator

from dingrelay_chaos.asked import CampaignAsked
from dingrelay_chaos.evidence import CampaignEvidence, Evidence, Violation
from dingrelay_chaos.snapshot import USER_DAY, text_of
from dingrelay_chaos.system import System

NOT_SENT = frozenset({"cancelled", "failed", "pending", "unknown_user", "out_of_scope"})
"""Outcomes that say: no call was made for this person."""


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Campaigns that hang, miss or tell otherwise than it was."""
    for asked in evidence.asked.campaigns:
        found = evidence.campaigns.get(asked.campaign)
        if found is not None:
            yield from _state(asked, found)
            yield from _people(evidence, asked, found)
            yield from _sums(asked, found)


def _state(asked: CampaignAsked, found: CampaignEvidence) -> Iterator[Violation]:
    state, reason = found.row["state"], found.row["reason"]
    if state not in {"done", "cancelled", "draft"}:
        text = f"campaign {asked.campaign} is {state} for ever ({reason}): {found.row['settled']}"
        yield Violation(5, f"{text} of {found.row['chunks']} chunks", asked.campaign)
    if state == "draft" and asked.started:
        yield Violation(5, f"campaign {asked.campaign} was started and is a draft", asked.campaign)


def _people(
    evidence: Evidence, asked: CampaignAsked, found: CampaignEvidence
) -> Iterator[Violation]:
    snapshot = evidence.snapshot
    outcomes = {each["userid"]: each for each in found.people}
    if sorted(outcomes) != sorted(asked.users):
        yield Violation(5, f"campaign {asked.campaign} has other people than asked", asked.campaign)
    entries = [
        entry for entry in snapshot.entries if text_of(entry).split(" ")[:2] == asked.tag.split(" ")
    ]
    arrived = Counter(entry["user"] for entry in entries if not entry["reason"])
    uncounted = {each["user"] for each in snapshot.entries if each["call_id"] in evidence.uncounted}
    dropped = uncounted | {
        each["user"] for each in entries if (text_of(each), each["user"]) in evidence.beyond_the_day
    }
    for user in asked.users:
        times, outcome = arrived[user], outcomes.get(user, {}).get("outcome", "missing")
        said = f"campaign {asked.campaign} says {outcome} of {user}"
        if times > 1:
            yield Violation(5, f"{said}, who has it {times} times", asked.campaign)
        if outcome == "accepted" and not times and user not in dropped:
            yield Violation(5, f"{said}, who never got it", asked.campaign)
        if outcome == "duplicate" and not times and user not in dropped:
            yield Violation(5, f"{said}, who has none", asked.campaign)
        received = snapshot.received(user)
        if outcome == "daily_cap" and received < USER_DAY:
            yield Violation(5, f"{said}, who had {received} messages only", asked.campaign)
        if outcome in NOT_SENT and times and user not in uncounted:
            yield Violation(5, f"{said}, who has it", asked.campaign)


def _sums(asked: CampaignAsked, found: CampaignEvidence) -> Iterator[Violation]:
    counted = Counter(each["outcome"] for each in found.people)
    outcomes = {name: count for name, count in found.summary["outcomes"].items() if count}
    if dict(counted) != outcomes:
        text = f"campaign {asked.campaign} counts {outcomes}, its people are {dict(counted)}"
        yield Violation(5, text, asked.campaign)
    row = found.row
    total = row["accepted"] + row["left_out"] + row["failed"]
    if row["state"] == "done" and total != row["recipients"]:
        text = f"campaign {asked.campaign} is done with {total} of {row['recipients']} people"
        yield Violation(5, text, asked.campaign)
