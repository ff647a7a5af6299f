"""Shares: senders that wait take turns, whatever fails, and no slot goes by unused while anybody waits."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from dingrelay_producers.store.states import State
from dingrelay_simulation.operations import READ
from dingrelay_simulation.oracle.evidence import WORKERS, Effect, Evidence, Violation
from dingrelay_simulation.worker import CONCURRENCY

WINDOW = 5
"""Seconds over which the use of the limit is looked at."""
BACK = 12.0
"""Seconds after a fault in which the fleet is at its full pace again: leases of scheduler and leader end."""
LEASE = 40.0
"""Seconds after a kill in which jobs of that worker may be behind their turns."""
OFF = 20
"""Calls by which a sender is ahead of its turns, or behind them, at most."""
COUNTS = {"came": 1, "called": -1, "cancelled": -1}
"""Addition of a moment to the jobs that wait."""
USED = 0.9
"""Share of the limit that is used while many wait."""


@dataclass
class Ideal:
    """Calls by turns: each is of the sender that has had least while it waited.

    Attributes:
        calls: of each sender, had turns been kept to the call.
    """

    calls: Counter[str] = field(default_factory=Counter[str])
    jobs: Counter[str] = field(default_factory=Counter[str])
    had: Counter[str] = field(default_factory=Counter[str])
    left: int = 0

    def came(self, sender: str) -> None:
        """A worker has seen a job."""
        if sender not in self._waiting:
            least = min((self.had[each] for each in self._waiting), default=0)
            self.had[sender] = max(self.had[sender], least)
        self.jobs[sender] += 1
        self._share()

    def cancelled(self, sender: str) -> None:
        """One that waited was cancelled; what it has had here already is the others'."""
        self.jobs[sender] -= 1
        if self.calls[sender] > self.jobs[sender]:
            self.calls[sender] -= 1
            self.had[sender] -= 1
            self.called()

    def called(self) -> None:
        """A call has left, of any job."""
        self.left += 1
        self._share()

    @property
    def _waiting(self) -> list[str]:
        return [sender for sender, jobs in self.jobs.items() if jobs > self.calls[sender]]

    def _share(self) -> None:
        while self.left and (waiting := self._waiting):
            turn = min(waiting, key=self.had.__getitem__)
            self.calls[turn] += 1
            self.had[turn] += 1
            self.left -= 1


@dataclass(frozen=True)
class Moment:
    """When something of a sender's job happened, in seconds."""

    at: float
    what: str
    sender: str


def _moments(evidence: Evidence) -> list[Moment]:
    """Events of the jobs of a crowd, in order."""
    senders = {
        request.job: request.values["users"][0]
        for request in evidence.requests.jobs
        if request.name == "burst" and request.job
    }
    seen = {job: at for job, at in evidence.seen.items() if job in senders}
    moments = [Moment(at, "came", senders[job]) for job, at in seen.items()]
    moments += [
        Moment(command.at, "cancelled", senders[command.job])
        for command in evidence.requests.commands
        if command.verb == "cancel"
        and seen.get(command.job, command.at) < command.at
        and _is_cancelled(evidence, command.job)
    ]
    first: dict[str, Effect] = {}
    for effect in evidence.effects:
        if effect.path == READ:
            first.setdefault(effect.tag, effect)
    moments += [Moment(effect.at, "called", effect.users[0]) for effect in first.values()]
    return sorted(moments, key=lambda moment: moment.at)


def _is_cancelled(evidence: Evidence, job: str) -> bool:
    status = evidence.statuses.get(job)
    return status is not None and status.state == State.CANCELLED


def check_turns(evidence: Evidence) -> Iterator[Violation]:
    """Each sender of a crowd has had as many calls as its turns gave it, but for those that were under way."""
    ideal, had = Ideal(), Counter[str]()
    for moment in _moments(evidence):
        if moment.what == "called":
            had[moment.sender] += 1
            ideal.called()
        elif moment.what == "came":
            ideal.came(moment.sender)
        else:
            ideal.cancelled(moment.sender)
        struck = evidence.faults.around(moment.at - LEASE, moment.at, "redis", *WORKERS)
        most = OFF + CONCURRENCY * len(struck)
        for sender in {**had, **ideal.calls}:
            off = had[sender] - ideal.calls[sender]
            if abs(off) > most:
                text = f"{sender} is {off} calls off its turns at {moment.at:.3f}"
                yield Violation("turns", text, sender)
                return


def check_use(evidence: Evidence) -> Iterator[Violation]:
    """The limit is used while jobs of a crowd wait that some worker has seen."""
    moments = _moments(evidence)
    calls = [moment.at for moment in moments if moment.what == "called"]
    enough = 1.5 * evidence.limit * WINDOW
    for start in range(2, int(calls[-1] if calls else 0) - WINDOW):
        end = start + WINDOW
        waiting = sum(COUNTS[moment.what] for moment in moments if moment.at < start)
        struck = evidence.faults.around(start - BACK, end, "redis", *WORKERS)
        if waiting < enough or struck:
            continue
        used = sum(start <= at < end for at in calls)
        if used < USED * evidence.limit * WINDOW:
            text = f"{used} calls from {start} s to {end} s, while {waiting} jobs waited"
            yield Violation("unused", text)
            return


def check_calls(evidence: Evidence) -> Iterator[Violation]:
    """A job of a crowd that is done has made its call, and only a run whose claim Redis forgot makes another."""
    for tag, requests in evidence.requests_by_tag({"burst"}).items():
        job = requests[0].job
        status, effects = evidence.statuses.get(job), evidence.effects_by_tag.get(tag, [])
        if status and status.state == State.DONE and not effects:
            yield Violation("lost", f"{job} is done, and made no call", job)
        for first, second in pairwise(effects):
            claimed = evidence.seen.get(job, first.at)
            if not evidence.explains(first, second) and not evidence.forgotten(claimed, second.at):
                yield Violation("again", f"{tag!r} was called again by {second.worker}", job)
