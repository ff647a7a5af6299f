"""What the door answers when a job has ended: DingTalk's own answer, or a refusal in its words."""

import re
from collections.abc import Mapping
from dataclasses import replace

from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError, JobStatus
from dingrelay_workers.gateway.drop_in import words
from dingrelay_workers.gateway.drop_in.words import DoorAnswer, Words

_OURS = re.compile(r"quota|[a-z]+(?:_[a-z]+)+")
"""Codes of jobs that are words of ours; DingTalk's have capitals or dots."""

LONGEST_CODE = 10
"""Digits of an errcode at most."""

_BY_CLASS: Mapping[str, Words] = {
    "permission": words.FORBIDDEN,
    "quota": words.QUOTA,
    "throttled": words.THROTTLED,
    "not_found": words.NOT_FOUND,
    "permanent": words.PARAMETER,
    "contract": words.PARAMETER,
}
"""What a job ended by, where DingTalk's own words are not known or are of the other dialect."""

_OLD_CODES: Mapping[str, Words] = {
    "processCodeError": words.TEMPLATE,
    "820001": words.TEMPLATE,
    "830001": words.TEMPLATE,
    "formConverterError": words.FORM,
    "illegalComponent": words.FORM,
    "810003": words.FORM,
    "invalidAgentId": words.AGENT,
    "40056": words.AGENT,
}
"""Codes of approvals that both dialects have a word for."""


def verbatim(status: JobStatus, path: str) -> DoorAnswer:
    """The answer to a call that was made as it came: DingTalk's own, where it gave one."""
    if status.state == State.DONE and status.result is not None:
        return DoorAnswer(status.result.get("answer") or {})
    if status.state != State.UNKNOWN and status.error and status.error.answer:
        return DoorAnswer(status.error.answer.body, status.error.answer.status)
    return words.refused(refusal_of(status), path)


def refusal_of(status: JobStatus) -> Words:
    """What to say of a job that did not end well."""
    error = status.error
    match status.state:
        case State.UNKNOWN:
            return words.ambiguous(status.id)
        case State.CANCELLED:
            return words.cancelled(status.id)
        case State.DEAD if error is not None:
            pass
        case _:
            return words.BUSY
    return _OLD_CODES.get(error.code) or _words_of(error) or words.BUSY


def _words_of(error: JobError) -> Words | None:
    """DingTalk's code as far as it is one of either dialect, with the class's word in the other."""
    if error.error_class == "contract":
        found = words.FORM if error.code.startswith("form") else words.PARAMETER
        return replace(found, errmsg=f"{found.errmsg}: {error.message}")
    meant = _BY_CLASS.get(error.error_class)
    if meant is None:
        return None
    if error.code.isdecimal() and len(error.code) < LONGEST_CODE:
        return replace(meant, errcode=int(error.code), errmsg=error.message)
    if _OURS.fullmatch(error.code):
        return replace(meant, errmsg=error.message)
    return replace(meant, code=error.code, errmsg=error.message)
