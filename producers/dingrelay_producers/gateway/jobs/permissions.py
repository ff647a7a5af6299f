"""What a key's jobs may be: their kind, app, lane and sender."""

from collections.abc import Mapping

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


def signed(contract: Contract, key: ApiKey, default_sender: str) -> Contract:
    """The job with its sender, where the key allows it.

    Raises:
        Problem: the key does not (403); the field is named.
    """
    if not key.permits(SCOPE_OF_KIND[contract.kind]):
        detail = f"this needs the scope {SCOPE_OF_KIND[contract.kind]}"
        raise Problem(problems.FORBIDDEN, detail)
    if not key.permits_app(contract.app):
        raise Problem.at(problems.FORBIDDEN, "/app", "the key is not for this app")
    if not key.permits_lane(contract.lane):
        raise Problem.at(
            problems.FORBIDDEN, "/lane", f"the key is not for the lane {contract.lane}"
        )
    if not contract.sender:
        if not default_sender:
            return contract
        return contract.model_copy(update={"sender": default_sender})
    if not key.permits_sender(contract.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")
    return contract


def may_see(key: ApiKey, *, sender: str, app: str) -> bool:
    """Whether a key sees and changes a job: one that it could have asked for.

    A key without a sender of its own sees those of every sender.
    """
    return key.permits_sender(sender) and key.permits_app(app)
