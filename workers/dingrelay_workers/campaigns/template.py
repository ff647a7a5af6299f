"""Messages with ``{name}`` fields in their texts, filled in for each recipient.

A field is a name and nothing more: no attributes, no formats. ``{{`` and ``}}`` stand for braces.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from dingrelay_tasks.contract import TYPE_FIELD, ContractError, contract_error
from dingrelay_tasks.message import Message, payload
from dingrelay_tasks.sentence import en

ROOT = "message"

REMEMBERED = 256
"""Results kept: with few different ones, most recipients cost no filling in."""

_MARK = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

_adapter: TypeAdapter[Message] = TypeAdapter(Message)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text taken apart: literals, and the positions of values."""

    parts: tuple[str | int, ...]

    def fill(self, values: Sequence[str]) -> str:
        return "".join(part if isinstance(part, str) else values[part] for part in self.parts)


class FilledTemplate(NamedTuple):
    """A message that is filled in.

    Attributes:
        json: the ``msg`` object.
        digest: equal for equal messages, and else not.
    """

    json: str
    digest: bytes


class Template:
    """A message whose texts may hold fields.

    Attributes:
        source: the message as it was given.
        fields: the names of its fields, each once, in the order in which they appear.

    Raises:
        ContractError: it can't become a message whatever the fields hold, or a brace stands alone.
    """

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.source = dict(message)
        _check_shape(self.source)
        names: dict[str, int] = {}
        self._tree = _compile(self.source, ROOT, names)
        self.fields = tuple(names)
        self.fill = lru_cache(REMEMBERED)(self._fill)
        if not self.fields:
            self.fill(())

    @property
    def message(self) -> dict[str, Any]:
        """The stored form of the message: itself, or the template if it has fields."""
        if self.fields:
            return self.source
        message: dict[str, Any] = json.loads(self.fill(()).json)
        return message

    def _fill(self, values: tuple[str, ...]) -> FilledTemplate:
        """The message with these values, one for each of `fields`.

        Raises:
            ContractError: it is none with these values, such as more than 5,000 characters.
        """
        filled = _filled(self._tree, values)
        try:
            message = json.dumps(payload(_adapter.validate_python(filled)))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            found["loc"] = (ROOT, *found["loc"])
            raise contract_error(found, {ROOT: filled}) from None
        return FilledTemplate(message, blake2b(message.encode(), digest_size=16).digest())


def _check_shape(message: dict[str, Any]) -> None:
    """Complain about what no value of a field can mend."""
    try:
        _adapter.validate_python(message)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            # The first step is the type of the message, which is no field.
            if not (_about_a_text(found["type"]) and _may_vary(message, found["loc"][1:])):
                found["loc"] = (ROOT, *found["loc"])
                raise contract_error(found, {ROOT: message}) from None


def _about_a_text(problem: str) -> bool:
    return problem == "literal_error" or problem.startswith("string_")


def _may_vary(message: Any, path: tuple[int | str, ...]) -> bool:
    for step in path:
        message = message[step]
    return isinstance(message, str) and "{" in message


def _compile(node: Any, path: str, names: dict[str, int]) -> Any:
    """The node with its texts taken apart; adds the fields to `names`."""
    if isinstance(node, dict):
        pairs = cast("dict[str, Any]", node)
        return {
            name: value if name == TYPE_FIELD else _compile(value, f"{path}.{name}", names)
            for name, value in pairs.items()
        }
    if isinstance(node, list):
        items: list[Any] = node
        return [_compile(item, f"{path}.{at}", names) for at, item in enumerate(items)]
    return _parse(node, path, names) if isinstance(node, str) else node


def _parse(text: str, path: str, names: dict[str, int]) -> _Text:
    if "\0" in text:
        raise ContractError(path, "holds a NUL character")
    parts: list[str | int] = []
    end = 0
    for mark in _MARK.finditer(text):
        parts.append(text[end : mark.start()])
        end = mark.end()
        brace, name = mark[0], mark[1]
        if brace in {"{{", "}}"}:
            parts.append(brace[0])
        elif name is None:
            raise ContractError(path, en('a single "{}" must be written "{}"', brace, brace * 2))
        elif not name.strip():
            raise ContractError(path, "a field has no name: write {name}, or {{}} for the braces")
        else:
            parts.append(names.setdefault(name.strip(), len(names)))
    return _Text((*parts, text[end:]))


def _filled(node: Any, values: Sequence[str]) -> Any:
    if isinstance(node, _Text):
        return node.fill(values)
    if isinstance(node, dict):
        pairs = cast("dict[str, Any]", node)
        return {name: _filled(value, values) for name, value in pairs.items()}
    if isinstance(node, list):
        items: list[Any] = node
        return [_filled(item, values) for item in items]
    return node
