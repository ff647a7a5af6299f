"""The trace that something belongs to, as the W3C writes it down (Trace Context, level 2).

One text, as a job's record keeps it: the ``traceparent``, and behind a blank the ``tracestate`` where
there is one; empty for none. OpenTelemetry is not needed for it.
"""

import re
from collections.abc import Sequence

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
LONGEST_STATE = 512
"""Characters of a ``tracestate`` that is passed on: the least that every participant must accept."""
MOST_MEMBERS = 32
"""Of a ``tracestate``."""
KNOWN_FLAGS = 0x03
"""Sampled, and a random trace id. Others are not passed on."""

_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.ASCII | re.DOTALL,
)
_MEMBER = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9_\-*/@]{0,255})="
    r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


def read(traceparent: object, tracestate: object = "") -> str:
    """The trace in a caller's headers; empty where they hold none, or an invalid one.

    Args:
        traceparent: anything; a list for a header that came more than once, which is ignored.
        tracestate: the same; of a list the parts belong together. What is wrong with it takes nothing
            from the other.
    """
    parents = _texts(traceparent)
    found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
    if found is None:
        return ""
    version, trace, span = found["version"], found["trace"], found["span"]
    # A later version may say more behind what this one says.
    wrong = version == "ff" or (version == "00" and found["more"] is not None)
    if wrong or not int(trace, 16) or not int(span, 16):
        return ""
    flags = int(found["flags"], 16) & KNOWN_FLAGS
    return written(f"00-{trace}-{span}-{flags:02x}", _state(_texts(tracestate)))


def written(traceparent: str, tracestate: str) -> str:
    """Both as one text. A state that is too long is left out."""
    return f"{traceparent} {tracestate}" if 0 < len(tracestate) <= LONGEST_STATE else traceparent


def headers(trace: str) -> dict[str, str]:
    """The headers that propagate a trace; none for none."""
    parent, _, state = trace.partition(" ")
    if not parent:
        return {}
    return {TRACEPARENT: parent, TRACESTATE: state} if state else {TRACEPARENT: parent}


def trace_id(trace: str) -> str:
    """The id of a trace, in hexadecimal digits; empty for none."""
    return trace[3:35]


def span_id(trace: str) -> str:
    """The id of the span that the text names; empty for none."""
    return trace[36:52]


def _texts(value: object) -> list[str]:
    values: Sequence[object] = value if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]
    return [each for each in values if isinstance(each, str) and each]


def _state(parts: Sequence[str]) -> str:
    """The state in its parts; empty where any of it is not as it must be."""
    members: dict[str, str] = {}
    for member in ",".join(parts).split(","):
        text = member.strip(" \t")
        if not text:
            continue
        found = _MEMBER.fullmatch(text)
        if found is None or found["key"] in members:
            return ""
        members[found["key"]] = text
    return ",".join(members.values()) if len(members) <= MOST_MEMBERS else ""
