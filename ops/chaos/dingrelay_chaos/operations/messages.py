"""Messages: one, many in a batch, one over HTTP, and one by a bare Celery client."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from dingrelay_chaos.operations.operation import enqueue
from dingrelay_chaos.requests import MessageRequest
from dingrelay_chaos.system import System
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks import MessageSend

PLURALS = {"mobile": "mobiles", "email": "emails", "job_number": "job_numbers"}
"""What a message calls people by."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message. Times are in seconds from when it is asked for."""

    tag: str
    users: tuple[str, ...] = ()
    departments: tuple[int, ...] = ()
    everyone: bool = False
    lane: str = "normal"
    sender: str = ""
    key: str | None = None
    send_in: float | None = None
    expires_in: float | None = None
    allow_duplicate: bool = False
    confirm: bool = False
    on_unknown: Literal["repeat", "stop"] = "repeat"
    bare: bool = False
    http: bool = False
    same_as: int | None = None
    addressed: tuple[tuple[str, str], ...] = ()
    """Recipients by something else than a userid: what, and who it is."""

    def run(self, system: System, step: int) -> None:
        """Enqueue it, by our client, over HTTP, or by a bare Celery client."""
        request = self.request(system, step)
        system.requests.messages.append(request)
        if self.bare:
            request.accepted = "yes" if _sent_bare(system, request, self.document()) else "perhaps"
        elif self.http:
            _post(system, request, self.document(), f"step-{step}")
        else:
            document = self.document()
            for kind, address, _ in request.addressed:
                document["to"].setdefault(PLURALS[kind], []).append(address)
            enqueue(system, MessageSend.parse(document), request)

    def request(self, system: System, step: int) -> MessageRequest:
        """What the oracle is to know of it."""
        now = system.now()
        return MessageRequest(
            step,
            now,
            self.tag,
            self.users,
            self.departments,
            self.everyone,
            self.allow_duplicate,
            bare=self.bare,
            not_before=None if self.send_in is None else now + self.send_in,
            not_after=None if self.expires_in is None else now + self.expires_in,
            same_as=self.same_as,
            addressed=tuple(_address(system, *each) for each in self.addressed),
        )

    def document(self) -> dict[str, Any]:
        """The job as JSON values."""
        job: dict[str, Any] = {
            "to": {
                "users": list(self.users),
                "departments": list(self.departments),
                "everyone": self.everyone,
            },
            "message": {"msgtype": "text", "text": {"content": self.tag}},
            "lane": self.lane,
            "idempotency_key": self.key,
            "send_at": _moment(self.send_in),
            "expires_at": _moment(self.expires_in),
            "allow_duplicate": self.allow_duplicate,
            "confirm": self.confirm,
            "on_unknown": self.on_unknown,
        }
        return job | ({"sender": self.sender} if self.sender else {})


@dataclass(frozen=True, slots=True)
class SendMany:
    """Messages to one person each, in one batch."""

    sends: tuple[Send, ...]

    def run(self, system: System, step: int) -> None:
        """Enqueue them; equal ones become one job."""
        requests = [each.request(system, step) for each in self.sends]
        system.requests.messages.extend(requests)
        left = iter(requests)

        def accept(job: Any) -> None:
            each = next(left)
            each.job, each.accepted, each.answered = job.id, "yes", system.now()

        with suppress(ServiceUnavailable):
            jobs = [MessageSend.parse(each.document()) for each in self.sends]
            system.client.send_many(jobs, on_sent=accept)


def _address(system: System, kind: str, user: str) -> tuple[str, str, str]:
    """Kind, address and userid; not everybody has an e-mail address."""
    known = system.addresses[user]
    kind = kind if kind in known else "job_number"
    return kind, known[kind], user


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _post(system: System, request: MessageRequest, document: dict[str, Any], once: str) -> None:
    status, answer = system.gateway.post("/v1/messages", document, once)
    match status:
        case 202:
            request.job, request.accepted, request.answered = answer["id"], "yes", system.now()
        case 0:
            pass
        case _:
            request.accepted = "no"
            raise AssertionError(f"the gateway refused a message: {status} {answer}")


def _sent_bare(system: System, request: MessageRequest, document: dict[str, Any]) -> bool:
    try:
        request.job = system.send_bare("dingrelay.message-send", document)
    except Exception:  # noqa: BLE001 - kombu raises what its transport does
        return False
    return True
