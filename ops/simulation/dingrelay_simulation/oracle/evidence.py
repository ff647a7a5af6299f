"""The evidence of a run: what was requested, what DingTalk carried out, and which faults struck when."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from dingrelay_producers.store.status import JobStatus
from dingrelay_simulation import draws
from dingrelay_simulation.application import Delivery
from dingrelay_simulation.approvals import FORM_FIELD, Followed
from dingrelay_simulation.campaigns import Broadcast
from dingrelay_simulation.faults import Faults, Trouble
from dingrelay_simulation.fleet import ChunkRun, Run
from dingrelay_simulation.lanes import LanePause
from dingrelay_simulation.operations import ASYNCSEND, BATCH_SEND, READ, Request, Requests
from dingrelay_simulation.organisation import Directories
from dingrelay_simulation.webhooks import Endpoint

SENDS = frozenset(
    {
        "send",
        "send_many",
        "keyed",
        "equal",
        "bare",
        "times",
        "stop_on_unknown",
        "allow_duplicate",
        "confirm",
    }
)
"""Operations that send a message to people."""
RECIPIENTS = "143103"
"""DingTalk's reason for dropping a recipient beyond the limit of a window, in silence (API §5.3)."""
ENDS = frozenset({"kill", "stop"})
"""Faults that end a worker."""
DELAYS = frozenset({"freeze", "cut from redis", "lost on the way"})
"""Faults that keep a worker from Redis for a while."""
LATE_ANSWERS = frozenset({"freeze", "cut from redis", "redis slow", "redis silent"})
"""Faults in which an answer of Redis is late, and comes."""
STOPPED = ENDS | DELAYS | {"dingtalk away", "cut from dingtalk"}
"""Faults by which a call that was noted never comes to DingTalk."""
RETRIED = 6.0
"""Seconds after a fault in which a worker has tried again to reach Redis."""
RECORDED = 0.5
"""Seconds after an answer in which the end of its call is in Redis, where nothing is struck."""
REPORTED = 12.0
"""The same where DingTalk's report on the message is read before."""
UNDER_WAY = 70.0
"""Seconds for which a call may be on its way to DingTalk."""
WORKERS = tuple(f"w{number}" for number in range(draws.WORKERS))
BEFORE = 0.05
"""Seconds before a call leaves in which its worker notes it."""


@dataclass
class Effect:
    """A call that reached DingTalk, and mostly one that it carried out.

    Attributes:
        id: the sandbox's number of it.
        at: when it arrived, and DingTalk counted it and had it take effect, in seconds from the beginning.
        worker: its sender.
        path: of the API.
        tag: the text in it.
        users: its recipients.
        delivered: users that got something by it.
        dropped: users that got nothing → DingTalk's reason.
        answered: when its sane answer was there; None if it never was.
        day: of Beijing, by DingTalk's clock.
        verdict: of DingTalk: ``ok`` if it was carried out.
        spoilt: whether a fault met it there.
        left: when it began to leave its worker, or a connection was opened for it.
        departed: when its last byte left.
        method: of HTTP: a path has an API for each of them.
        left_on: the day on which that was, likewise.
    """

    id: int
    at: float
    worker: str
    path: str
    tag: str
    users: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict[str, str])
    answered: float | None = None
    day: int = 0
    verdict: str = "ok"
    spoilt: bool = False
    left: float = 0.0
    departed: float = 0.0
    method: str = "POST"
    left_on: int = 0

    @property
    def over_limit(self) -> list[str]:
        """Users that DingTalk dropped in silence, since a window of recipients was full."""
        return [user for user, reason in self.dropped.items() if reason == RECIPIENTS]


@dataclass(frozen=True)
class Month:
    """The calls of the month.

    Attributes:
        counted: as the fleet counted them.
        answers: of each that DingTalk counted its worker, and when its sane answer was there, if it ever was.
    """

    counted: int
    answers: Sequence[tuple[str, float | None]] = ()


@dataclass(frozen=True)
class Violation:
    """Something that does not hold, and the job or text that it is about."""

    kind: str
    text: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Evidence:
    """All that the oracle knows.

    Attributes:
        requests: jobs and commands, with their answers.
        statuses: job → its state at the end; None without a record.
        effects: calls that DingTalk carried out, in order.
        faults: with the times in which they were in force.
        instances: tag → approvals of DingTalk's.
        deleted: approvals that people deleted.
        followed: approval → what the product knows of it.
        posts: tag → when it was posted in the group.
        keys_without_end: of Redis.
        redis_skew: seconds by which Redis' clock is ahead.
        broadcasts: campaigns, with their reports.
        chunk_runs: runs of their chunks, in order.
        way: seconds of the longest way to DingTalk.
        ends: job → when a worker heard from Redis that it has ended, and which worker.
        directories: the organisation and the directory.
        endpoints: of webhooks, by their names.
        deliveries: what they got.
        runs: of each job, in order.
        lane_pauses: those that were answered.
        limit: calls a second.
        recalled: DingTalk's id of a call that was taken back → its text, and who had it.
        attempts: calls with a text of ours that reached DingTalk, carried out or not, in order.
        calls: all that reached it.
        pauses: job → when a worker put it off after a failure, and for how long.
        month: its calls.
        call_timeout: seconds after which a worker gives an answer up.
        settle_delay: seconds after which what can't be found is held not to exist.
    """

    requests: Requests
    statuses: dict[str, JobStatus | None]
    effects: list[Effect]
    faults: Faults
    instances: dict[str, list[Any]]
    posts: dict[str, list[float]]
    keys_without_end: list[str]
    redis_skew: float
    broadcasts: Sequence[Broadcast] = ()
    chunk_runs: Sequence[ChunkRun] = ()
    way: float = 0.03
    ends: Mapping[str, Sequence[tuple[float, str]]] = field(
        default_factory=dict[str, Sequence[tuple[float, str]]]
    )
    deleted: Collection[str] = ()
    followed: Mapping[str, Followed] = field(default_factory=dict[str, Followed])
    directories: Directories = field(default_factory=Directories)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    deliveries: Sequence[Delivery] = ()
    runs: Mapping[str, Sequence[Run]] = field(default_factory=dict[str, Sequence[Run]])
    lane_pauses: Sequence[LanePause] = ()
    limit: int = 20
    recalled: Mapping[int, tuple[str, set[str]]] = field(
        default_factory=dict[int, tuple[str, set[str]]]
    )
    attempts: Sequence[Effect] = ()
    calls: Sequence[Effect] = ()
    pauses: Mapping[str, Sequence[tuple[float, float]]] = field(
        default_factory=dict[str, Sequence[tuple[float, float]]]
    )
    month: Month = field(default_factory=lambda: Month(0))
    call_timeout: float = 15.0
    settle_delay: float = 10.0

    @cached_property
    def effects_by_tag(self) -> dict[str, list[Effect]]:
        """Tag → the calls with it that were carried out, in order."""
        return _by_tag(self.effects)

    @cached_property
    def attempts_by_tag(self) -> dict[str, list[Effect]]:
        """Tag → the calls with it, in order."""
        return _by_tag(self.attempts)

    @cached_property
    def seen(self) -> dict[str, float]:
        """Job → when a worker first took a message about it."""
        return {job: runs[0].at for job, runs in self.runs.items()}

    @cached_property
    def confirmed(self) -> set[str]:
        """Tags of messages whose delivery is confirmed before their jobs end."""
        return {request.tag for request in self.requests.jobs if request.name == "confirm"}

    @cached_property
    def single_requests(self) -> list[Request]:
        """Accepted requests whose tag no other one has: its calls are theirs."""
        groups: dict[str, list[Request]] = defaultdict(list)
        for request in self.requests.jobs:
            groups[request.tag].append(request)
        return [
            requests[0]
            for requests in groups.values()
            if len(requests) == 1 and requests[0].accepted == "yes"
        ]

    @cached_property
    def left_open(self) -> set[str]:
        """Tags of jobs that an earlier release left with a call whose answer it did not have."""
        return {request.tag for request in self.requests.jobs if request.open_call}

    def requests_by_tag(self, names: Iterable[str]) -> dict[str, list[Request]]:
        """Tag → requests by operations of these names."""
        groups: dict[str, list[Request]] = defaultdict(list)
        for request in self.requests.jobs:
            if request.name in names:
                groups[request.tag].append(request)
        return groups

    def over_limit(self, tag: str) -> set[str]:
        """Users kept from a text by a full window of recipients."""
        return {user for effect in self.effects_by_tag.get(tag, ()) for user in effect.over_limit}

    def commanded(self, verb: str) -> set[str]:
        """Jobs for which a command was given."""
        return {command.job for command in self.requests.commands if command.verb == verb}

    @cached_property
    def resolved_in_doubt(self) -> set[str]:
        """Jobs that a person resolved who may not have known what was still on its way."""
        return {
            command.job
            for command in self.requests.commands
            if command.verb == "resolve"
            and self.faults.around(command.at - UNDER_WAY, command.at, "dingtalk", *WORKERS)
        }

    @property
    def again_by_hand(self) -> set[str]:
        """Jobs that a person had carried out again, whatever had been done by then."""
        return self.commanded("requeue") | self.resolved_in_doubt

    def forgotten(self, since: float, until: float) -> bool:
        """Whether Redis came back without its record of a moment in this time."""
        return any(
            begin <= until and since <= end + RECORDED for begin, end in self.faults.forgotten
        )

    def forgotten_end(self, heard: float, worker: str) -> bool:
        """Whether Redis came back without the end of a job that a worker heard of: it may have had it since before a fault that held its answer up."""
        since, earlier = heard, True
        while earlier:
            troubles = self.kept_from_redis(worker, since - RECORDED, heard)
            earliest = min(
                (trouble.since for trouble in troubles if trouble.name in LATE_ANSWERS),
                default=since,
            )
            since, earlier = min(since, earliest), earliest < since
        return self.forgotten(since, heard)

    def forgotten_call(self, effect: Effect) -> bool:
        """Whether Redis may have forgotten the note of a call, or the record of its end."""
        return self.forgotten(effect.left - BEFORE, (effect.answered or effect.at) + RECORDED)

    def struck(self, call: Effect, since: float) -> bool:
        """Whether a call's worker or Redis was struck, from a moment until the end of the call was recorded, or Redis forgot it."""
        until = (call.at if call.answered is None else call.answered) + RECORDED
        return self.forgotten_call(call) or bool(self.kept_from_redis(call.worker, since, until))

    def in_doubt(self, tag: str, since: float, until: float) -> bool:
        """Whether a call with a text may have been noted by a moment, without a record of its end, or that it never left."""
        earlier = [call for call in self.attempts_by_tag.get(tag, ()) if call.left < until]
        if tag in self.left_open and not any(call.verdict == "ok" for call in earlier):
            return True
        if any(call.answered is None or self.struck(call, call.left) for call in earlier):
            return True
        if self.faults.around(since, until, "redis"):
            return True
        # One may have been noted that never reached DingTalk: it leaves once its connection is open, two ways later.
        opened = until + 2 * self.way
        troubles = self.faults.around(since, opened, "dingtalk", *WORKERS)
        return any(trouble.name in STOPPED for trouble in troubles)

    def kept_from_redis(self, worker: str, since: float, until: float) -> list[Trouble]:
        """The faults that kept a worker from Redis in a time, or ended it."""
        return [
            trouble
            for trouble in self.faults.around(since, until, worker, "redis")
            if trouble.subject == "redis" or trouble.name in ENDS | DELAYS
        ]

    def settles(self, call: Effect) -> float:
        """When a call that can't be found by then is held not to have been carried out.

        Its worker notes that it gives the answer up; from one that was struck no more is known than when the call left.
        """
        given_up = call.left + self.call_timeout
        if self.kept_from_redis(call.worker, call.left - BEFORE, given_up + RECORDED):
            given_up = call.left - BEFORE
        return given_up + self.settle_delay

    def unrecorded(self, worker: str, at: float) -> bool:
        """Whether a worker may have ended, or Redis forgotten, before what the worker knew at a moment was in Redis.

        It gets there once no fault keeps the one from the other.
        """
        until, struck = at + RECORDED, True
        while struck:
            troubles = self.kept_from_redis(worker, at, until)
            if any(trouble.name in ENDS for trouble in troubles):
                return True
            latest = max((trouble.until + RETRIED for trouble in troubles), default=until)
            until, struck = max(until, latest), latest > until
        return self.forgotten(at, until)

    def explains(self, first: Effect, second: Effect) -> bool:
        """Whether a fault explains that a call was made again.

        Its answer was lost, its worker or Redis was struck until the end of the call was recorded, or the run that made
        it had lost the job to the run that made the second one. Or they are equal calls of two days.
        """
        if second.left < first.left:
            first, second = second, first  # it was overtaken on its way
        if self._taken_over(first, second) or self._are_of_two_days(first, second):
            return True
        since = first.left - BEFORE
        if first.answered is None:
            troubles = self.faults.around(since, second.left, "dingtalk", "redis", first.worker)
            return first.spoilt or bool(troubles)
        recorded = REPORTED if first.tag in self.confirmed else RECORDED
        until = min(second.left, first.answered + recorded)
        return self.forgotten_call(first) or bool(self.kept_from_redis(first.worker, since, until))

    def _are_of_two_days(self, first: Effect, second: Effect) -> bool:
        """Whether several jobs have this text, and midnight came between the calls as they left.

        Workers count a call on the day on which it left; DingTalk does where it arrives.
        """
        if first.path != ASYNCSEND or first.left_on == second.left_on:
            return False
        return sum(request.tag == first.tag for request in self.requests.jobs) > 1

    def _taken_over(self, first: Effect, second: Effect) -> bool:
        """Whether the second call is of a run that began while the run of the first one was under way.

        The fault by which that lost its job struck before; it had noted its call by then, as it could not do any more.
        """
        return any(
            run.made(first.worker, first.left)
            and first.left - BEFORE <= later.at <= run.until
            and later.made(second.worker, second.left)
            and self.kept_from_redis(run.worker, run.at, later.at)
            for runs in self._runs_of(first)
            for run, later in combinations(runs, 2)
        )

    def _runs_of(self, call: Effect) -> Iterator[Sequence[Run]]:
        """The runs of each job whose call this may be."""
        jobs = {request.job for request in self.requests.jobs if request.tag == call.tag}
        tag = call.tag.split(" ", maxsplit=1)[0]
        campaigns = {broadcast.id for broadcast in self.broadcasts if broadcast.tag == tag}
        for job, runs in self.runs.items():
            chunk = next((run for run in runs if isinstance(run, ChunkRun)), None)
            if job in jobs or (
                chunk and chunk.campaign in campaigns and chunk.users.issuperset(call.users)
            ):
                yield runs


def _by_tag(effects: Iterable[Effect]) -> dict[str, list[Effect]]:
    groups: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        groups[effect.tag].append(effect)
    return groups


def read_tag(path: str, payload: Any) -> tuple[str, tuple[str, ...]]:
    """The text of a call, and its people."""
    if not isinstance(payload, dict):
        return "", ()
    content: dict[str, Any] = payload
    if path == ASYNCSEND:
        message = content.get("msg")
        message = json.loads(message) if isinstance(message, str) else message or {}
        users = str(content.get("userid_list") or "")
        text = str(message.get("text", {}).get("content", ""))
        return text, tuple(filter(None, users.split(",")))
    if path == BATCH_SEND:
        text = str(json.loads(str(content.get("msgParam") or "{}")).get("content"))
        return text, tuple(map(str, content.get("userIds") or ()))
    if path == READ and "sender" in content:
        return f"{content['sender']}/{content['number']}", (str(content["sender"]),)
    for name in ("formComponentValues", "form_component_values"):
        for control in content.get(name) or ():
            if control.get("name") == FORM_FIELD:
                return str(control.get("value")), ()
    return "", ()
