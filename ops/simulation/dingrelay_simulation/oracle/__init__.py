"""The oracle: what must hold of a run, judged call by call from what was requested and what DingTalk holds.

It forgives a call too many only where a fault explains this call: its answer was lost, its worker, or Redis, was
struck between the call and the record of its end, or its run lost the job to a later one.
"""

from dingrelay_simulation.oracle import (
    approvals,
    calls,
    campaigns,
    commands,
    directory,
    endings,
    followed,
    keys,
    lanes,
    limits,
    messages,
    reasons,
    recalls,
    robots,
    shares,
    webhooks,
)
from dingrelay_simulation.oracle.evidence import Evidence, Violation

CHECKS = (
    endings.check_endings,
    endings.check_single_ends,
    messages.check_messages,
    messages.check_times,
    calls.check_repeats,
    calls.check_runs,
    calls.check_days,
    calls.check_single_calls,
    calls.check_silence,
    approvals.check_approvals,
    followed.check_followed,
    recalls.check_recalls,
    robots.check_robots,
    campaigns.check_campaigns,
    campaigns.check_stopped,
    directory.check_directory,
    directory.check_left,
    webhooks.check_completeness,
    webhooks.check_notices,
    shares.check_turns,
    shares.check_use,
    shares.check_calls,
    commands.check_cancels,
    lanes.check_paused_lanes,
    reasons.check_expired,
    reasons.check_dead,
    reasons.check_pauses,
    limits.check_drops,
    limits.check_calls,
    limits.check_month,
    keys.check_keys,
)


def verify(evidence: Evidence) -> list[Violation]:
    """Everything that does not hold."""
    return [violation for check in CHECKS for violation in check(evidence)]
