"""Operations of producers and operators, and their answers: all that the oracle has beside DingTalk's truth."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from dingrelay_producers import Client
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_simulation.approvals import FORM_FIELD, Decisions
from dingrelay_simulation.campaigns import Campaigns
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.dingtalk import APP
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.lanes import Lanes
from dingrelay_simulation.organisation import Changes
from dingrelay_simulation.plan import Step
from dingrelay_simulation.webhooks import Subscriptions
from dingrelay_tasks import ApiCall, ApprovalCreate, MessageSend, RobotMessage, UserSync
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.database.database import Database

TEMPLATE = "PROC-EXPENSE"
ASYNCSEND = "/topapi/message/corpconversation/asyncsend_v2"
BATCH_SEND = "/v1.0/robot/oToMessages/batchSend"
"""A call of a user's own: a copy of what it brings is dropped by no one."""
READ = "/topapi/v2/user/get"
"""A call of a crowd's: it changes nothing."""


@dataclass
class Request:
    """A job that was requested.

    Attributes:
        number: of the operation.
        at: seconds from the beginning.
        accepted: ``yes``, ``no``, or ``perhaps`` where the answer was lost.
        open_call: whether its record had a call without an answer when the run began.
    """

    number: int
    at: float
    name: str
    values: dict[str, Any]
    tag: str
    job: str = ""
    accepted: str = "perhaps"
    open_call: bool = False


@dataclass
class Command:
    """A command about a job, and its answer."""

    at: float
    verb: str
    job: str
    answer: str


@dataclass
class Requests:
    """All jobs and commands of a run."""

    jobs: list[Request] = field(default_factory=list[Request])
    commands: list[Command] = field(default_factory=list[Command])


class Feature(Protocol):
    """Operations of one subject, and what there is of it in the end.

    Attributes:
        names: of its operations.
    """

    names: frozenset[str]

    def perform(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Carry one out; what takes time is returned."""

    async def mend(self) -> None:
        """The faults are over: do what lets all come to its end."""

    async def ended(self) -> bool:
        """Whether all has come to its end."""
        ...

    async def collect(self) -> dict[str, Any]:
        """Fields of the evidence."""
        ...


class Operations:
    """Carries operations out, as a producer, an operator, and the people at DingTalk."""

    def __init__(self, fleet: Fleet, note: Callable[..., None]) -> None:
        self.requests = Requests()
        self._database = Database(fleet.settings.database)
        self._decisions = Decisions(fleet, self._database, note)
        self._features: tuple[Feature, ...] = (
            Campaigns(fleet, self._database, note),
            self._decisions,
            Changes(fleet, self._database, note, self._send),
            Subscriptions(fleet, self._database, note, self._jobs),
            Lanes(fleet),
        )
        self._by_name = {name: each for each in self._features for name in each.names}
        self._by_hand: dict[str, Callable[[Step], None]] = {
            **dict.fromkeys(("cancel", "requeue", "discard"), self._command_target),
            "recall": self._recall,
            "resolve": self._resolve,
            "send_many": self._send_many,
            "bare": self._bare,
            "burst": self._burst,
            "call_off": self._call_off,
            "cancel_digests": self._cancel_digests,
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: list[Exception] = []
        self._fleet = fleet
        self._note = note

    @property
    def _client(self) -> Client:
        return self._fleet.client

    def perform(self, step: Step) -> None:
        """Carry one out."""
        self._note("operation", step.name, step.values)
        try:
            self._perform(step)
        except Exception as error:  # noqa: BLE001 - the loop keeps it for itself
            self._failed.append(error)

    def _perform(self, step: Step) -> None:
        if feature := self._by_name.get(step.name):
            if work := feature.perform(step):
                self._tasks.append(asyncio.get_running_loop().create_task(work))
        elif act := self._by_hand.get(step.name):
            act(step)
        else:
            self._send(step, make_job(step.name, step.values))

    async def mend(self) -> None:
        """Wait for what takes time, and do what an operator does after a bad hour.

        Raises:
            ExceptionGroup: operations that are none, such as a job that no client would send.
        """
        if self._failed:
            raise ExceptionGroup("operations could not be carried out", self._failed)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for feature in self._features:
            await feature.mend()

    async def ended(self) -> bool:
        """Whether all that was begun has come to its end."""
        if not self._fleet.have_ended(self._jobs()):
            return False
        return all([await feature.ended() for feature in self._features])

    async def collect(self) -> dict[str, Any]:
        """Evidence: what was requested, and what there is of it."""
        statuses = {job: self._fleet.status(job) for job in self._jobs()}
        evidence: dict[str, Any] = {"requests": self.requests, "statuses": statuses}
        for feature in self._features:
            evidence |= await feature.collect()
        await self._database.dispose()
        return evidence

    def _jobs(self) -> list[str]:
        return [request.job for request in self.requests.jobs if request.job]

    def _request(self, step: Step, tag: str) -> Request:
        request = Request(step.values["number"], CLOCK.now, step.name, step.values, tag)
        self.requests.jobs.append(request)
        return request

    def _send(self, step: Step, job: Any) -> str:
        """Send a job; its id if it may have been accepted."""
        request = self._request(step, step.values.get("tag", ""))
        try:
            request.job = self._client.send(job).id
            request.accepted = "yes"
        except IdempotencyConflict as conflict:
            request.job, request.accepted = conflict.job_id, "no"
        except ServiceUnavailable:
            pass
        self._note("accepted", request.number, request.job, request.accepted)
        return request.job

    def _recall(self, step: Step) -> None:
        """Take a message back."""
        for job in self._targets(step.values):
            request = self._request(step, "")
            request.values = {"of": job}
            try:
                request.job = self._client.recall(job).id
                request.accepted = "yes"
            except (DingrelayError, ContractError) as error:
                request.accepted = "no"
                self._note("not recalled", job, type(error).__name__)

    def _resolve(self, _: Step) -> None:
        """Say of each job whose outcome is unknown what DingTalk shows of it."""
        for request in self.requests.jobs:
            status = self._fleet.status(request.job) if request.job else None
            if status is None or status.state != State.UNKNOWN:
                continue
            by_sent = KINDS[status.kind].resolved_by == "sent"
            if decision := self._sent(request) if by_sent else self._created(request):
                self._command(request.job, "resolve", **decision)

    def _sent(self, request: Request) -> dict[str, Any]:
        """Whether its people have it; nothing where some have it and others have not."""
        users = request.values.get("users") or [request.values.get("user", "")]
        received = {user in self._fleet.dingtalk.received(request.tag) for user in users}
        return {"sent": received.pop()} if len(received) == 1 else {}

    def _created(self, request: Request) -> dict[str, Any]:
        """The approval of this text that is no other job's."""
        taken = {
            (status.result or {}).get("instance_id")
            for other in self.requests.jobs
            if other.tag == request.tag and other.job and (status := self._fleet.status(other.job))
        }
        free = [each.id for each in self._decisions.instances(request.tag) if each.id not in taken]
        return {"instance": free[0]} if free else {"not_created": True}

    def _send_many(self, step: Step) -> None:
        values = step.values
        one = {**values, "users": [values["users"][0]]}
        tags = (f"{values['tag']}-{number}" for number in range(values["count"]))
        self._send_all(step, [{**one, "tag": tag} for tag in tags], _message)

    def _burst(self, step: Step) -> None:
        """Many jobs of one sender."""
        sender, number = step.values["sender"], step.values["number"]
        tags = (f"{sender}/{number}-{count}" for count in range(step.values["count"]))
        self._send_all(step, [{"users": [sender], "tag": tag} for tag in tags], _read)

    def _send_all(
        self, step: Step, jobs: list[dict[str, Any]], make: Callable[[dict[str, Any]], Any]
    ) -> None:
        requests: list[Request] = []
        for values in jobs:
            request = self._request(step, values["tag"])
            request.values = values
            requests.append(request)
        pending = iter(requests)

        def accept(ref: Any) -> None:
            request = next(pending)
            request.job, request.accepted = ref.id, "yes"

        with suppress(ServiceUnavailable):
            self._client.send_many([make(values) for values in jobs], on_sent=accept)

    def _call_off(self, step: Step) -> None:
        """A sender cancels each n-th of its jobs."""
        jobs = [
            request.job
            for request in self.requests.jobs
            if request.job and request.values.get("users") == [step.values["sender"]]
        ]
        for job in jobs[:: step.values["each"]]:
            self._command(job, "cancel")

    def _cancel_digests(self, _: Step) -> None:
        """Cancel each job that is to post what waits in a digest."""
        ids = self._fleet.valkey.call("KEYS", keys.job("*"))
        kinds = self._fleet.valkey.call_all([("HGET", record, "kind") for record in ids])
        prefix = len(keys.job(""))
        for record, kind in sorted(zip(ids, kinds, strict=True)):
            if kind == b"robot-digest":
                self._command(record.decode()[prefix:], "cancel")

    def _bare(self, step: Step) -> None:
        """The message of a client without our package, straight into its list."""
        request = self._request(step, step.values["tag"])
        request.job = f"bare-{step.values['number']}"
        document = _message(step.values).model_dump(mode="json", exclude_none=True)
        lane = step.values["lane"]
        message = {
            "body": json.dumps([[], {"job": document}, {}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"id": request.job, "task": "dingrelay.message-send"},
            "properties": {
                "delivery_info": {"routing_key": f"dingrelay.{lane}"},
                "delivery_tag": request.job,
            },
        }
        pushed = self._fleet.valkey.call("LPUSH", f"dingrelay.{lane}", json.dumps(message))
        request.accepted = "yes" if isinstance(pushed, int) else "no"
        self._fleet.broker.look()

    def _targets(self, values: dict[str, Any]) -> list[str]:
        """The job that an earlier operation made, if it did."""
        jobs = (each for each in self.requests.jobs if each.number == values["target"] and each.job)
        return [request.job for request in jobs][:1]

    def _command_target(self, step: Step) -> None:
        for job in self._targets(step.values):
            self._command(job, step.values["verb"])

    def _command(self, job: str, verb: str, **options: Any) -> None:
        try:
            answer = (
                str(getattr(self._client, verb)(job, **options))
                if verb != "cancel"
                else str(self._client.job(job).cancel())
            )
        except (DingrelayError, ContractError) as error:
            answer = type(error).__name__
        self.requests.commands.append(Command(CLOCK.now, verb, job, answer))
        self._note("answered", verb, job, options or "", answer)


def _moment(seconds: float | None) -> str | None:
    # The producer's clock is right, and Redis' may not be: these times have a margin (`oracle`).
    return None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _message(values: dict[str, Any]) -> Any:
    return MessageSend.parse(
        {
            "to": {"users": list(values["users"])},
            "message": {"msgtype": "text", "text": {"content": values["tag"]}},
            "lane": values["lane"],
            "idempotency_key": values.get("key"),
            "send_at": _moment(values.get("send_in")),
            "expires_at": _moment(values.get("expires_in")),
            "allow_duplicate": values.get("allow_duplicate", False),
            "confirm": values.get("confirm", False),
            "on_unknown": values.get("on_unknown", "repeat"),
        }
    )


def _call(values: dict[str, Any]) -> Any:
    text = json.dumps({"content": values["tag"]})
    body = {"robotCode": APP, "userIds": [values["user"]], "msgKey": "sampleText", "msgParam": text}
    return ApiCall.parse(
        {"method": "POST", "path": BATCH_SEND, "body": body, "effect": values["effect"]}
    )


def _robot(values: dict[str, Any]) -> Any:
    message = {"msgtype": "text", "text": {"content": values["tag"]}}
    if values["digest"]:
        message = {
            "msgtype": "markdown",
            "markdown": {"title": values["tag"], "text": values["tag"]},
        }
    lane = "normal" if values["digest"] else values["lane"]
    return RobotMessage.parse(
        {"to": {"robot": "alerts"}, "message": message, "lane": lane, "digest": values["digest"]}
    )


def _read(values: dict[str, Any]) -> Any:
    sender, number = values["tag"].split("/")
    body = {"userid": "u1", "sender": sender, "number": number}
    return ApiCall.parse(
        {
            "method": "POST",
            "path": READ,
            "body": body,
            "effect": "none",
            "sender": sender,
            "lane": "bulk",
        }
    )


def _approval(values: dict[str, Any]) -> Any:
    # DingTalk returns a table in another form than it was sent.
    rows = [{"项目": "出租车", "金额": "30"}] * values["rows"]
    return ApprovalCreate.parse(
        {
            "process_code": TEMPLATE,
            "originator": values["originator"],
            "form": {FORM_FIELD: values["tag"], **({"明细": rows} if rows else {})},
            "approvers": [{"action": "OR", "users": ["u6", "u7"]}] * values["steps"],
        }
    )


def _sync(values: dict[str, Any]) -> Any:
    return UserSync.parse({"scope": values["scope"]})


JOBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "approval": _approval,
    "call": _call,
    "sync": _sync,
    "robot": _robot,
}
"""Operation → how its job is made; of others a message."""


def make_job(name: str, values: dict[str, Any]) -> Any:
    """The job of an operation.

    Raises:
        ContractError: no client would send it.
    """
    return JOBS.get(name, _message)(values)
