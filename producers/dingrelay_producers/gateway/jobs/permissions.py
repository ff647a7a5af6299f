"""What a key's jobs may be: their kind, app, lane and sender."""

from collections.abc import Mapping
from typing import Any

from dingrelay_producers.gateway import problems
from dingrelay_producers.gateway.backend.access import ApiKey, Scope
from dingrelay_producers.gateway.problems import Problem
from dingrelay_tasks.contract import Contract

SCOPE_OF_KIND: Mapping[str, Scope] = {
    "message-send": "messages:write",
    "approval-create": "approvals:write",
    "user-sync": "syncs:write",
    "api-call": "calls:write",
}


def permitted(
    contract: type[Contract], fields: Mapping[str, Any], key: ApiKey, default_sender: str
) -> Contract:
    """The job of a body with its sender, where the key allows it.

    Raises:
        ContractError: the body is not what the contract says.
        Problem: the key does not (403); the field is named.
    """
    if fields.get("sender") in (None, ""):
        fields = {**fields, "sender": default_sender}
    job = contract.parse(fields, strict=True)
    if not key.permits(SCOPE_OF_KIND[job.kind]):
        detail = f"this needs the scope {SCOPE_OF_KIND[job.kind]}"
        raise Problem(problems.FORBIDDEN, detail)
    if not key.permits_app(job.app):
        raise Problem.at(problems.FORBIDDEN, "/app", "the key is not for this app")
    if not key.permits_lane(job.lane):
        raise Problem.at(problems.FORBIDDEN, "/lane", f"the key is not for the lane {job.lane}")
    if job.sender != default_sender and not key.permits_sender(job.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")
    return job


def may_see(key: ApiKey, *, sender: str, app: str) -> bool:
    """Whether a key sees and changes a job: one that it could have asked for.

    A key without a sender of its own sees those of every sender.
    """
    return key.permits_sender(sender) and key.permits_app(app)
