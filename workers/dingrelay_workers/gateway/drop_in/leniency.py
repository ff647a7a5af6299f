"""What DingTalk lets pass in a message, and a job's contract does not (API §0).

That is unknown fields, and numbers for texts. What DingTalk refuses is refused with its codes.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.message_send import MessageSend
from dingrelay_workers.gateway.drop_in import words
from dingrelay_workers.gateway.drop_in.words import Refusal, Words

MOST_REPAIRS = 50
MESSAGE = "message"
_UNKNOWN = "extra_forbidden"
_NO_TEXT = "string_type"
_ABSENT = {"missing", "string_too_short"}


def message_send(to: Mapping[str, Any], message: Any) -> MessageSend:
    """The job that sends a message.

    Raises:
        Refusal: DingTalk would refuse it.
    """
    job = {"to": to, MESSAGE: copy.deepcopy(message)}
    for _ in range(MOST_REPAIRS):
        try:
            return MessageSend.parse(job)
        except ContractError as error:
            if not _repaired(job, error):
                raise Refusal(_refusal(error)) from None
    raise Refusal(words.invalid("msg"))


def _repaired(job: dict[str, Any], error: ContractError) -> bool:
    """Whether the place that is wrong could be made as the contract wants it."""
    steps = error.field.split(".")
    if steps[0] != MESSAGE or len(steps) == 1:
        return False
    here: Any = job
    for step in steps[:-1]:
        here = _below(here, step)
    if not isinstance(here, dict) or steps[-1] not in here:
        return False
    fields = cast("dict[str, Any]", here)
    if error.code == _UNKNOWN:
        del fields[steps[-1]]
        return True
    value = fields[steps[-1]]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if error.code == _NO_TEXT and is_number:
        fields[steps[-1]] = str(value)
        return True
    return False


def _below(here: Any, step: str) -> Any:
    if isinstance(here, Mapping):
        return cast("Mapping[str, Any]", here).get(step)
    if isinstance(here, list) and step.isdecimal():
        items: list[Any] = here
        return items[int(step)] if int(step) < len(items) else None
    return None


def _refusal(error: ContractError) -> Words:
    place = error.field
    if place == f"{MESSAGE}.msgtype":
        return words.MESSAGE_TYPE
    if place.split(".")[0] == MESSAGE:
        place = "msg" + place.removeprefix(MESSAGE)
        if error.code == "string_too_long" or error.problem.startswith("more than"):
            return words.Words(34_016, f"消息内容过长 {place}", 400, "invalidParameter")
        if error.code in _ABSENT or error.problem.startswith("is required"):
            return words.missing(place)
        return words.Words(40_035, f"不合法的参数 {place}", 400, "invalidParameter")
    return words.invalid(place.replace("to.users", "userid_list"), error.problem)
