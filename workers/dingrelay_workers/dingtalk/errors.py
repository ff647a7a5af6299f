"""The classes of DingTalk's errors, by the worker's reaction.

* DingTalkError
  x Throttled          the API is paused for the whole fleet, and the job waits
  x TokenInvalid       the token is fetched again once, the call repeated once in a slot of its own
  x Transient          certainly not carried out; tried again with backoff
  x Ambiguous          it left and may have been carried out; settled, not guessed
  x Held               the app as a whole is refused: its jobs wait until it is repaired
    + Credentials      the app's key or secret is wrong
  x Final              will not succeed by trying again: the job is dead at once
    + Permanent        the request is wrong
    + Permission       the app lacks a scope, or the person or department is outside it
    + NotFound         the user, department or instance does not exist
    + QuotaExhausted   the organisation's month, or the day, is used up

`classify.py` is the table from codes to these classes; `redact` keeps secrets out of their words. Besides its class an error has a sign of an
outage (`Sickness`): then it is reported to the fleet and perhaps no fault of the job.
"""

import re
from typing import Any, ClassVar, Literal

from dingrelay_tasks.outcomes import CallRefused

Sickness = Literal["", "way", "answer"]
"""The sign of DingTalk's health in an error.

``way``: the way there fails, or what stands before DingTalk (no connection, timeout, a page).
``answer``: DingTalk says that it is in trouble, which may be about this one job only (-1, 15, 5xx).
Empty: it answered sanely, whatever it answered.
"""

UNREACHABLE = "unreachable"
"""Our code for a call that got no connection."""


class DingTalkError(Exception):
    """Base of all.

    Attributes:
        name: the class's name in records, logs and metrics, such as ``throttled``.
        code: DingTalk's own code: ``sub_code`` if there is one, else ``errcode`` or ``code``; a
            word of ours such as ``timeout`` where there was no answer.
        message: DingTalk's message, redacted; ours where there was no answer.
        hint: what to do about it; may be empty.
        request_id: DingTalk's id of the call, if given.
        sick: whether it is a sign of an outage.
        outage: what the job waits for, if that is reported to the fleet and not the job's own
            failure (`limiter.breakers.Circuit.name`); set by the code that reported it.
        unsent: the call did not leave, so the error says nothing about its API.
        of_read: the call would have changed nothing.
        verbatim: DingTalk's own words, for callers that get them.
    """

    name: ClassVar[str] = "error"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        request_id: str = "",
        sick: Sickness = "",
    ) -> None:
        super().__init__(f"{self.name} {code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.request_id = request_id
        self.sick: Sickness = sick
        self.outage = ""
        self.unsent = False
        self.of_read = False
        self.verbatim: dict[str, Any] | None = None
        """DingTalk's own words: HTTP's ``status`` and the ``body``, without tokens, secrets and app keys."""


class Throttled(DingTalkError):
    """A limit of DingTalk was met.

    Attributes:
        pause: seconds to leave the API alone (API §5.3).
        everything: whether all APIs from this address are paused (an IP ban, API §6).
        alone: whether only calls like this one are limited, so that no others pause.
    """

    name = "throttled"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        pause: float = 1.0,
        everything: bool = False,
        alone: bool = False,
        hint: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(code, message, hint=hint, request_id=request_id)
        self.pause = pause
        self.everything = everything
        self.alone = alone


class TokenInvalid(DingTalkError):
    """The access token is not, or no longer, good."""

    name = "token_invalid"


class Transient(DingTalkError):
    """Something that passes by itself; certainly without effect."""

    name = "transient"


class Ambiguous(DingTalkError):
    """A request with an effect left, and what became of it is not known."""

    name = "ambiguous"


class Held(DingTalkError):
    """DingTalk refuses the app as a whole, until its configuration is repaired."""

    name = "held"


class Credentials(Held):
    """The app key or secret is wrong."""

    name = "credentials"


class Final(DingTalkError, CallRefused):
    """Trying again will not help; a body may catch it."""

    name = "final"


class Permanent(Final):
    """The request is wrong, or not allowed in this form."""

    name = "permanent"


class Permission(Final):
    """The app may not do this."""

    name = "permission"


class NotFound(Final):
    """The user, department or instance in the request does not exist."""

    name = "not_found"


class QuotaExhausted(Final):
    """The organisation's quota is used up; not before the next month or day."""

    name = "quota"


LIMIT = 300
"""Characters of a message of DingTalk's that are worth keeping."""

HIDDEN = "***"

_NAME = (
    r"(?:x-acs-dingtalk-)?access[-_]?token|app[-_]?(?:key|secret)|client[-_]?(?:id|secret)"
    r"|(?:corp|suite)[-_]?(?:key|secret)|suite[-_]?ticket"
)
# A name, what stands between it and its value in a query, in JSON (escaped or not) or in a header,
# and the value. A bare mention of a name, as in DingTalk's messages, is left alone.
_SECRET = re.compile(
    rf"""((?:{_NAME})(?:\\*["'])?\s*(?:=|:|%3D)\s*(?:b?\\*["'])?)([^\s"'\\&,;<>)\]}}]+)""",
    re.IGNORECASE,
)
_NAMED = re.compile(_NAME, re.IGNORECASE)
# Nearly every text lacks all of these, which is much faster to check.
_HINT = re.compile(r"token|key|secret|client|ticket|bearer", re.IGNORECASE)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]+", re.IGNORECASE)


def redact(text: str, limit: int | None = LIMIT) -> str:
    """The text without the values of tokens, secrets and app keys, fit for any log.

    Args:
        text: a URL, a body, a header line or a message; may hold anything.
        limit: characters to keep; None keeps all.
    """
    # A text that can't be encoded would raise wherever it is written; escaped it can't.
    readable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    hidden = readable
    if _HINT.search(readable):
        hidden = _BEARER.sub(rf"\1{HIDDEN}", _SECRET.sub(rf"\1{HIDDEN}", readable))
    if limit is not None and len(hidden) > limit:
        return hidden[: limit - 1] + "…"
    return hidden


def redacted(value: Any) -> Any:
    """A value of JSON whose texts are without the values of tokens, secrets and app keys."""
    match value:
        case str():
            return redact(value, None)
        case list():
            items: list[Any] = value
            return [redacted(entry) for entry in items]
        case dict():
            fields: dict[str, Any] = value
            return {
                name: HIDDEN if _NAMED.fullmatch(name) else redacted(field)
                for name, field in fields.items()
            }
        case _:
            return value
