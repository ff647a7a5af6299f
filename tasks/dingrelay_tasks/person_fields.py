"""The fields of a document that hold userids, and the people in them.

A contract declares them by its types: `UserId`, and `DINGTALK_FIELDS` where JSON of DingTalk's passes through.
No other text identifies a person, since a userid may be ``1001`` or ``text``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast, get_args
from urllib.parse import unquote

from pydantic import BaseModel

ANY = "*"
"""Step of a path: each entry of a list, each value of an object."""
NAMED = "**"
"""Last step of a path: at any depth below, the fields that DingTalk's naming gives userids."""
IN_PATH = "/"
"""Last step of a path: a text that is the path of a URL, and its segment after ``users``."""


class PersonField:
    """Marks a type in a contract as one that holds userids.

    Args:
        step: `NAMED` or `IN_PATH`; "" for a value that is a userid itself.
    """

    def __init__(self, step: str = "") -> None:
        self.step = step


USERID = PersonField()
DINGTALK_FIELDS = PersonField(NAMED)
DINGTALK_PATH = PersonField(IN_PATH)

_NAME = re.compile(r".*(?:user|staff)ids?(?:list)?|userpermits|outerpermitusers|orgdeptowner")
"""DingTalk's names of fields with userids, in small letters and without ``_``: userid, userid_list,
originatorUserId, senderStaffId, dept_manager_userid_list … (API §2, §3, §4, §7.3, §12)."""
_SEGMENT = re.compile(r"(?<=/users/)[^/]+")

Path = str
"""Names of fields from the outside to the inside with dots between them, such as ``approvers.*.users``."""
Replace = Callable[[str], str]


@cache
def paths_of(model: type[BaseModel]) -> tuple[Path, ...]:
    """The paths of a model's fields that hold userids."""
    return tuple(
        dict.fromkeys(
            ".".join(steps)
            for name, field in model.model_fields.items()
            for steps in _paths((name,), field.annotation, field.metadata)
        )
    )


def _paths(
    steps: tuple[str, ...], annotation: Any, metadata: Iterable[Any] = ()
) -> Iterator[tuple[str, ...]]:
    marks = [mark for mark in metadata if isinstance(mark, PersonField)]
    if marks:
        yield (*steps, marks[0].step) if marks[0].step else steps
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for path in paths_of(annotation):
            yield (*steps, path)
    elif hasattr(annotation, "__metadata__"):
        yield from _paths(steps, annotation.__origin__, annotation.__metadata__)
    else:
        inner = () if getattr(annotation, "__origin__", None) not in _MANY else (ANY,)
        for argument in get_args(annotation):
            yield from _paths((*steps, *inner), argument)


_MANY = {list, dict, tuple, set, frozenset}


_CALLED_AS_PEOPLE = {
    "user",
    "users",
    "originator",
    "cc",
    "kept",
    "invalid",
    "duplicate",
    "daily_cap",
}
"""Our own names of such fields."""


def undeclared_in(model: type[BaseModel]) -> Iterator[str]:
    """Names of a model's fields with texts that are called as fields with userids are, and not declared so."""
    declared = {step for path in paths_of(model) for step in path.split(".")}
    for name in texts_of(model):
        called_as_people = _NAME.fullmatch(name.replace("_", "").lower())
        if (called_as_people or name in _CALLED_AS_PEOPLE) and name not in declared:
            yield name


def texts_of(model: type[BaseModel]) -> Iterator[str]:
    """Names of a model's fields with texts, and of those of its parts."""
    for name, field in model.model_fields.items():
        types = [*_types_of(field.annotation)]
        if str in types:
            yield name
        for part in types:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from texts_of(part)


def _types_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _types_of(argument)


def people_in(document: Any, paths: Iterable[Path]) -> set[str]:
    """The userids that a JSON document holds in the fields of these paths, of whatever shape it is."""
    people: set[str] = set()

    def note(user: str) -> str:
        people.add(user)
        return user

    for path in paths:
        _mapped(document, path.split("."), note)
    return people


def renamed_in(document: Any, paths: Iterable[Path], user: str, tombstone: str) -> Any:
    """The JSON document with a tombstone for a userid in the fields of these paths; all else is as it was."""
    for path in paths:
        document = _mapped(
            document, path.split("."), lambda userid: tombstone if userid == user else userid
        )
    return document


def renamed(value: Any, user: str, tombstone: str) -> Any:
    """A userid, a list of userids, or a text of userids with commas, with a tombstone for one of them."""
    return _mapped(value, (), lambda userid: tombstone if userid == user else userid)


def _mapped(value: Any, steps: Iterable[str], replace: Replace) -> Any:
    """The value with what `replace` makes of each userid at the end of these steps."""
    step, *rest = steps or ("",)
    match step:
        case "":
            return _userids(value, replace)
        case "*":
            return _entries(value, lambda entry: _mapped(entry, rest, replace))
        case "**":
            return _in_named_fields(value, replace)
        case "/":
            return _in_path(value, replace)
        case _ if isinstance(value, Mapping) and step in value:
            fields = cast("Mapping[str, Any]", value)
            return {
                name: _mapped(inner, rest, replace) if name == step else inner
                for name, inner in fields.items()
            }
        case _:
            return value


def _entries(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [change(entry) for entry in cast("Sequence[Any]", value)]
    if isinstance(value, Mapping):
        return {name: change(inner) for name, inner in cast("Mapping[object, Any]", value).items()}
    return change(value)  # a malformed job may have one userid in place of a list


def _userids(value: Any, replace: Replace) -> Any:
    """DingTalk and old clients also write a userid as a number, and several as a text with commas."""
    if isinstance(value, str):
        return ",".join(map(replace, value.split(",")))
    if isinstance(value, int) and not isinstance(value, bool):
        changed = replace(str(value))
        return value if changed == str(value) else changed
    if isinstance(value, list):
        return [_userids(entry, replace) for entry in cast("Sequence[Any]", value)]
    return value


def _in_named_fields(value: Any, replace: Replace) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _in_named_fields(_userids(inner, replace) if _is_name(name) else inner, replace)
            for name, inner in cast("Mapping[object, Any]", value).items()
        }
    if isinstance(value, list):
        return [_in_named_fields(entry, replace) for entry in cast("Sequence[Any]", value)]
    return value


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name.replace("_", "").lower()) is not None


def _in_path(value: Any, replace: Replace) -> Any:
    if not isinstance(value, str):
        return value

    def segment(match: re.Match[str]) -> str:
        changed = replace(user := unquote(match[0]))
        return match[0] if changed == user else changed

    return _SEGMENT.sub(segment, value)
