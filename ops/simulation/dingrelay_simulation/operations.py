"""Operations of producers and operators, and their answers: all that the oracle has beside DingTalk's truth."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers import Client
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_simulation.campaigns import Campaigns
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_tasks import ApiCall, ApprovalCreate, MessageSend, RobotMessage, UserSync
from dingrelay_tasks.contract import ContractError

TEMPLATE = "PROC-ANY"
ASYNCSEND = "/topapi/message/corpconversation/asyncsend_v2"


@dataclass
class Request:
    """A job that was requested.

    Attributes:
        number: of the operation.
        at: seconds from the beginning.
        accepted: ``yes``, ``no``, or ``perhaps`` where the answer was lost.
    """

    number: int
    at: float
    name: str
    values: dict[str, Any]
    tag: str
    job: str = ""
    accepted: str = "perhaps"


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


class Operations:
    """Carries operations out, as a producer."""

    def __init__(self, fleet: Fleet, note: Callable[..., None]) -> None:
        self.requests = Requests()
        self.campaigns = Campaigns(fleet, note)
        self._tasks: list[asyncio.Task[None]] = []
        self._fleet = fleet
        self._note = note

    @property
    def _client(self) -> Client:
        return self._fleet.client

    def perform(self, step: Step) -> None:
        """Carry one out."""
        self._note("operation", step.name, step.values)
        values = step.values
        match step.name:
            case "approval":
                job: Any = ApprovalCreate.parse(
                    {
                        "process_code": TEMPLATE,
                        "originator": values["originator"],
                        "form": {"事由": values["tag"]},
                    }
                )
                self._send(step, job)
            case "call":
                self._send(step, _call(values))
            case "sync":
                self._send(step, UserSync.parse({"scope": values["scope"]}))
            case "robot":
                self._send(step, _robot(values))
            case "cancel" | "requeue" | "discard":
                self._command(values)
            case "send_many":
                self._send_many(step)
            case "campaign":
                self._tasks.append(
                    asyncio.get_running_loop().create_task(self.campaigns.create(step))
                )
            case "campaign_command":
                self._tasks.append(
                    asyncio.get_running_loop().create_task(self.campaigns.command(step))
                )
            case "bare":
                self._bare(step)
            case _:
                self._send(step, _message(values))

    async def finished(self) -> None:
        """Wait for those that take time."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _request(self, step: Step, tag: str) -> Request:
        request = Request(step.values["number"], CLOCK.now, step.name, step.values, tag)
        self.requests.jobs.append(request)
        return request

    def _send(self, step: Step, job: Any) -> None:
        request = self._request(step, step.values.get("tag", ""))
        try:
            request.job = self._client.send(job).id
            request.accepted = "yes"
        except IdempotencyConflict as conflict:
            request.job, request.accepted = conflict.job_id, "no"
        except ServiceUnavailable:
            pass
        self._note("accepted", request.number, request.job, request.accepted)

    def _send_many(self, step: Step) -> None:
        values = step.values
        jobs: list[Any] = []
        requests: list[Request] = []
        for number in range(values["count"]):
            tag = f"{values['tag']}-{number}"
            one = {**values, "tag": tag, "users": [values["users"][0]]}
            jobs.append(_message(one))
            request = self._request(step, tag)
            request.values = one
            requests.append(request)
        pending = iter(requests)

        def accept(ref: Any) -> None:
            request = next(pending)
            request.job, request.accepted = ref.id, "yes"

        with suppress(ServiceUnavailable):
            self._client.send_many(jobs, on_sent=accept)

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

    def _command(self, values: dict[str, Any]) -> None:
        targets = [
            request.job
            for request in self.requests.jobs
            if request.number == values["target"] and request.job
        ]
        if not targets:
            return
        job, verb = targets[0], values["verb"]
        try:
            answer = (
                str(getattr(self._client, verb)(job))
                if verb != "cancel"
                else str(self._client.job(job).cancel())
            )
        except (DingrelayError, ContractError) as error:
            answer = type(error).__name__
        self.requests.commands.append(Command(CLOCK.now, verb, job, answer))
        self._note("answered", verb, job, answer)


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
    message = {"msgtype": "text", "text": {"content": values["tag"]}}
    body = {"agent_id": 1000001, "userid_list": values["user"], "msg": message}
    return ApiCall.parse(
        {"method": "POST", "path": ASYNCSEND, "body": body, "effect": values["effect"]}
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
