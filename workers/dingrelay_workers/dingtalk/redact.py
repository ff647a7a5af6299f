"""Keep tokens, secrets and app keys out of everything that people read."""

import re
from typing import Any

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
    # What can't be encoded would raise wherever the text is written; escaped it can't.
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
            return [redacted(each) for each in items]
        case dict():
            fields: dict[str, Any] = value
            return {
                name: HIDDEN if _NAMED.fullmatch(name) else redacted(each)
                for name, each in fields.items()
            }
        case _:
            return value
