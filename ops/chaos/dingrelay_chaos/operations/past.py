"""What a schedule has asked for so far, for operations that are about it."""

from dataclasses import dataclass, field

from dingrelay_chaos.operations.approvals import Approve
from dingrelay_chaos.operations.messages import Send


@dataclass(slots=True)
class Past:
    """What a schedule has asked for so far, for operations that are about it."""

    sends: dict[int, Send] = field(default_factory=dict[int, Send])
    approvals: dict[int, Approve] = field(default_factory=dict[int, Approve])
    campaigns: list[int] = field(default_factory=list[int])
    syncs: list[int] = field(default_factory=list[int])
    changed: list[str] = field(default_factory=list[str])
    """People who were moved, the latest last."""
    endpoints: list[str] = field(default_factory=list[str])
    """Those that were added."""

    def jobs(self) -> list[int]:
        """The steps that asked for a job, in order."""
        return sorted([*self.sends, *self.approvals, *self.syncs])
