"""How a person settles an unknown job: by a look into DingTalk."""

from typing import TYPE_CHECKING

from dingrelay_chaos.requests import ApprovalRequest, MessageRequest
from dingrelay_chaos.snapshot import text_of
from dingrelay_producers import State

if TYPE_CHECKING:
    from dingrelay_chaos.system import System


def resolve(system: "System", job: str) -> str:
    """Say that it happened, or that it did not, as the sandbox has it; the answer as text."""
    if system.client.status(job).state != State.UNKNOWN:
        return "not unknown"
    request = next((each for each in system.requests.everything() if each.job == job), None)
    match request:
        case ApprovalRequest():
            return _approval(system, request)
        case MessageRequest():
            return _message(system, request)
        case _:
            return "nothing to resolve"


def _approval(system: "System", request: ApprovalRequest) -> str:
    """Where several equal jobs are unknown, each is given an instance that no other names."""
    named = {
        (system.client.status(each.job).result or {}).get("instance_id")
        for each in system.requests.approvals
        if each.job and each.accepted == "yes" and each.tag == request.tag
    }
    free = [
        each["id"]
        for each in system.sandbox.approvals()
        if each["id"] not in named and any(request.tag == value for _, value in each["form"])
    ]
    if free:
        return f"{free[0]}: {system.client.resolve(request.job, instance=free[0])}"
    return f"not created: {system.client.resolve(request.job, not_created=True)}"


def _message(system: "System", request: MessageRequest) -> str:
    inboxes = [system.sandbox.inbox(user) for user in request.named]
    sent = any(text_of(each) == request.content for box in inboxes for each in box["delivered"])
    return f"sent {sent}: {system.client.resolve(request.job, sent=sent)}"
