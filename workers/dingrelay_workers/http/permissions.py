"""What a key's jobs may be: their kind, app, lane and sender."""

from collections.abc import Mapping
from typing import Any, Protocol

from dingrelay_tasks.contract import Contract, Lane
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.problems import Problem


class Permitted(Protocol):
    """A job, or what becomes one."""

    @property
    def app(self) -> str: ...  # noqa: D102

    @property
    def lane(self) -> Lane: ...  # noqa: D102

    @property
    def sender(self) -> str: ...  # noqa: D102


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
    scope = KINDS[job.kind].scope
    if not key.permits(scope):
        detail = f"this needs the scope {scope}"
        raise Problem(problems.FORBIDDEN, detail)
    check_asked(job, key, default_sender)
    return job


def check_asked(job: Permitted, key: ApiKey, default_sender: str) -> None:
    """Whether a key may ask for something with this app, lane and sender.

    Raises:
        Problem: it may not (403); the field is named.
    """
    if not key.permits_app(job.app):
        raise Problem.at(problems.FORBIDDEN, "/app", "the key is not for this app")
    if not key.permits_lane(job.lane):
        raise Problem.at(problems.FORBIDDEN, "/lane", f"the key is not for the lane {job.lane}")
    if job.sender != default_sender and not key.permits_sender(job.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")


def may_see(key: ApiKey, *, sender: str, app: str) -> bool:
    """Whether a key sees and changes a job: one that it could have asked for.

    A key without a sender of its own sees those of every sender.
    """
    return key.permits_sender(sender) and key.permits_app(app)
