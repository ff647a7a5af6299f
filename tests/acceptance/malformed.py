"""Jobs that no contract takes, each with the field that is wrong, for hypothesis to draw."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from dingrelay_tasks.contract import Json

Path = tuple[str | int, ...]

LONE_SURROGATE = "半\ud83d"
"""Half of a character, which JSON can spell and UTF-8 can't."""

GOOD: dict[str, Json] = {
    "message-send": {
        "to": {"users": ["u1", "u2"], "departments": [7]},
        "message": {"msgtype": "text", "text": {"content": "你好"}},
    },
    "user-sync": {"scope": "user", "user": "u1"},
    "approval-create": {
        "process_code": "PROC-LEAVE",
        "originator": "u1",
        "form": [{"name": "事由", "value": "出差"}],
        "approvers": [{"action": "AND", "users": ["u2"]}],
    },
    "api-call": {
        "method": "POST",
        "path": "/topapi/v2/user/get",
        "query": {"language": "zh_CN"},
        "body": {"userid": "u1"},
    },
}
REQUIRED: dict[str, list[Path]] = {
    "message-send": [("to",), ("message",), ("message", "msgtype"), ("message", "text")],
    "user-sync": [("user",)],
    "approval-create": [
        ("process_code",),
        ("originator",),
        ("form",),
        ("form", 0, "name"),
        ("form", 0, "value"),
        ("approvers", 0, "action"),
        ("approvers", 0, "users"),
    ],
    "api-call": [("method",), ("path",)],
}

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
LISTS = st.lists(st.integers(), max_size=3)
OBJECTS = st.dictionaries(st.text(max_size=5), st.integers(), min_size=1, max_size=3)
NO_TEXT = NUMBERS | st.booleans() | LISTS | OBJECTS | st.just(LONE_SURROGATE)
NO_LIST = NUMBERS | st.booleans() | st.text(max_size=9) | OBJECTS
NO_OBJECT = NUMBERS | st.booleans() | st.text(max_size=9) | LISTS
NO_FLAG = LISTS | OBJECTS | st.sampled_from(["perhaps", "", 2, 0.5, LONE_SURROGATE])
NO_USER = NO_TEXT | st.sampled_from(["", "a,b", "a b", "u1\n", "x" * 65, "\x00", "\u3000"])
NO_DEPARTMENT = (
    st.sampled_from([0, -(2**63), 2**63, "7", 7.0, 1.5, True])
    | st.text(max_size=5)
    | LISTS
    | OBJECTS
)
NO_APP = NO_TEXT | st.sampled_from(["", "a b", "默认", "x" * 65, "../etc", "default\n"])
NO_CHOICE = NO_TEXT | st.sampled_from(["", "URGENT", "normal ", "\x00"])
NO_MOMENT = (
    LISTS | OBJECTS | st.sampled_from(["", "tomorrow", "2026-11-24T10:00:00", "2026-13-01", True])
)
NO_LABEL = NO_TEXT | st.just("")

Bad = tuple[Path, st.SearchStrategy[Any]]

EVERYWHERE: list[Bad] = [(("app",), NO_APP), (("lane",), NO_CHOICE)]
DELIVERED: list[Bad] = [
    (("send_at",), NO_MOMENT),
    (("expires_at",), NO_MOMENT),
    (("idempotency_key",), NO_LABEL | st.just("k" * 257)),
]
BAD: dict[str, list[Bad]] = {
    "message-send": [
        *EVERYWHERE,
        *DELIVERED,
        (("to",), NO_OBJECT | st.just({"users": []})),
        (("to", "users"), NO_LIST),
        (("to", "users", 1), NO_USER),
        (("to", "departments"), NO_LIST),
        (("to", "departments", 0), NO_DEPARTMENT),
        (("to", "everyone"), NO_FLAG | st.just(True)),
        (("message",), NO_OBJECT),
        (("message", "msgtype"), NO_CHOICE),
        (("message", "text"), NO_OBJECT),
        (("message", "text", "content"), NO_LABEL | st.just("字" * 5_001)),
        (("confirm",), NO_FLAG),
        (("allow_duplicate",), NO_FLAG),
        (("on_unknown",), NO_CHOICE),
    ],
    "user-sync": [
        *EVERYWHERE,
        (("scope",), NO_CHOICE),
        (("user",), NO_USER),
        (("department",), st.just(5) | NO_DEPARTMENT),
        (("confirm_removals",), NO_FLAG),
    ],
    "approval-create": [
        *EVERYWHERE,
        *DELIVERED,
        (("process_code",), NO_LABEL | st.sampled_from(["a b", "x" * 129])),
        (("originator",), NO_USER),
        (("department",), NO_DEPARTMENT),
        (("form",), NUMBERS | st.booleans() | st.text(max_size=9) | LISTS.filter(bool)),
        (("form",), st.just([]) | st.just([{"name": "n", "value": "v"}] * 151)),
        (("form", 0), NO_OBJECT),
        (("form", 0, "name"), NO_LABEL),
        (("form", 0, "value"), st.sampled_from([LONE_SURROGATE, "长" * 65_536])),
        (("approvers",), NO_LIST | st.just([{"action": "OR", "users": ["u2"]}] * 21)),
        (("approvers", 0, "action"), NO_CHOICE),
        (("approvers", 0, "users"), NO_LIST | st.just([])),
        (("approvers", 0, "users", 0), NO_USER),
        (("cc",), NO_LIST | st.just(["u2"] * 51)),
        (("cc_position",), NO_CHOICE),
    ],
    "api-call": [
        *EVERYWHERE,
        *DELIVERED,
        (("method",), NO_CHOICE | st.sampled_from(["post", "CONNECT", "GET\r\n"])),
        (("path",), NO_TEXT | st.sampled_from(["", "/", "//evil.example/x", "/a/../b", "/a?b=c"])),
        (("query",), NO_OBJECT),
        (("query", "language"), LISTS | OBJECTS | st.sampled_from([1.5, LONE_SURROGATE])),
        (("body",), NUMBERS | st.booleans() | st.text(max_size=9)),
        (("body", "userid"), st.just(LONE_SURROGATE)),
        (("effect",), NO_CHOICE),
    ],
}


@dataclass(frozen=True)
class Malformed:
    """A job that is wrong in one field. `field` is that field's dotted path."""

    kind: str
    job: Json
    field: str


@st.composite
def malformed_jobs(draw: st.DrawFn) -> Malformed:
    """A good job with one field wrong, missing or unknown."""
    kind = draw(st.sampled_from(sorted(GOOD)))
    match draw(st.sampled_from(["wrong", "wrong", "wrong", "missing", "unknown"])):
        case "missing":
            path = draw(st.sampled_from(REQUIRED[kind]))
            job = without(GOOD[kind], path)
        case "unknown":
            name = draw(st.text(max_size=20) | st.just(LONE_SURROGATE)) + "?"
            job = {**GOOD[kind], name: draw(st.integers() | st.text())}
            path = (ascii(name) if LONE_SURROGATE in name else name,)
        case _:
            path, bad = draw(st.sampled_from(BAD[kind]))
            job = changed(GOOD[kind], path, draw(bad))
    return Malformed(kind, job, ".".join(map(str, path)))


def names(named: str, field: str) -> bool:
    """Whether an error that names `named` is about `field`: it, a part of it, or its whole."""
    return f"{named}.".startswith(f"{field}.") or f"{field}.".startswith(f"{named}.")


def changed(value: Any, path: Path, other: Any) -> Any:
    """A copy of a JSON value with another one at a place."""
    if not path:
        return other
    copy = value.copy()
    inner = value[path[0]] if len(path) > 1 else None
    copy[path[0]] = changed(inner, path[1:], other)
    return copy


def without(value: Any, path: Path) -> Any:
    """A copy of a JSON value without what is at a place."""
    copy = value.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(value[path[0]], path[1:])
    return copy
