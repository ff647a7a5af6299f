"""Declares Lua scripts by typed signatures: one file a transition, its keys and arguments by their names.

```python
@script("dingrelay_workers.store", PLACES)
def heartbeat(*, record: Key, owner: str, lease: int) -> None: ...
```

declares ``lua/heartbeat.lua`` of that package, behind what it needs of its preludes. The script reads `record`, `owner` and
`lease`, which the loader binds in a line before it; `heartbeat(record=…, owner=…, lease=…)` is a `Call`. So a type checker
sees each call, and luacheck each name (`tests/fundamentals/test_lua.py`).

| a parameter | in Lua |
|---|---|
| `Key`; `Keys` | a key; a table of keys |
| `str`, `bytes`, a `Literal` | a text |
| `int`, `float` | a number |
| `bool` | true or false |
| any of these or `None`, also `Key` | that, or nil |
| a sequence of these, or of a `NamedTuple` of these | a table, of tables with these fields |

An optional key is an argument for Redis: it checks the permission for every declared key, also for an empty one.
"""

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from inspect import Parameter, signature
from itertools import chain
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dingrelay_producers.store.scripts import Call, Script, Value

P = ParamSpec("P")

Key = Annotated[str, "key"]
Keys = Annotated[Sequence[str], "keys"]

_PACKAGE = "dingrelay_producers.store"


@dataclass(frozen=True)
class Prelude:
    """Lua that several scripts need: ``lua/<name>.lua`` of a package, behind the preludes that it needs itself.

    Attributes:
        constants: makes the locals before it, when its text is first needed.
    """

    package: str
    name: str
    needs: tuple["Prelude", ...] = ()
    constants: Callable[[], Mapping[str, str | int]] = dict

    @property
    def text(self) -> str:
        """Its own text."""
        # A Python string without quotes in it is spelled as in Lua.
        constants = "".join(
            f"local {name} = {value!r}\n" for name, value in self.constants().items()
        )
        return constants + source(self.package, self.name)


def script(
    package: str, *preludes: Prelude, together: bool = False
) -> Callable[[Callable[P, None]], "ScriptFunction[P]"]:
    """Declare the script of a package that is named as the function, without its underscore.

    What a script whose calls may go `together` (`together.lua`) leaves for its end, for all of them, it names as `finish`.
    """

    def declare(function: Callable[P, None]) -> "ScriptFunction[P]":
        return ScriptFunction(function, package, preludes, together=together)

    return declare


DECLARED: list["ScriptFunction[...]"] = []
"""All scripts of the modules that are loaded."""


class ScriptFunction(Generic[P]):
    """A script that is called as the function that declares it, by keywords.

    Attributes:
        name: of its file.
        names: of its keys and arguments.
        fields: of the rows among these.
        preludes: all that it may need, in order.
    """

    def __init__(
        self,
        function: Callable[P, None],
        package: str,
        preludes: Sequence[Prelude],
        *,
        together: bool,
    ) -> None:
        self.package = package
        self.name = function.__name__.removeprefix("_")
        self.__doc__ = function.__doc__
        hints = get_type_hints(function, include_extras=True)
        parameters = signature(function).parameters.values()
        for parameter in parameters:
            assert (parameter.kind, parameter.default) == (
                Parameter.KEYWORD_ONLY,
                Parameter.empty,
            ), self.name
        self._bindings = _Bindings(
            {parameter.name: hints[parameter.name] for parameter in parameters}
        )
        self.names = frozenset(parameter.name for parameter in parameters)
        self.fields = frozenset(
            field for row in self._bindings.lists.values() if row.is_row for field in row.fields
        )
        first_scalar = next(iter(self._bindings.scalars.values()), _TEXT)
        assert not together or first_scalar == _TEXT, (
            "an empty value says that several calls follow"
        )
        self.preludes = _in_order(preludes)
        self._together = together
        DECLARED.append(self)

    @cached_property
    def source(self) -> str:
        """The text of its own file."""
        return source(self.package, self.name)

    @cached_property
    def script(self) -> Script:
        """All of it, as Redis gets it."""
        text = self._bindings.lua + self.source
        shared = _needed(_LOCALS + "\n".join(prelude.text for prelude in self.preludes), text)
        if not self._together:
            return Script.of(shared + text)
        text = f"local finish\n{shared}local function call(KEYS, ARGV)\n{text}end\n"
        text += "local all_keys, values = KEYS, ARGV\n" + source(_PACKAGE, "together")
        return Script.of(text, together=True)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """This script with its keys and arguments."""
        return Call(self.script, *self._bindings.flatten(*args, **kwargs))


@cache
def source(package: str, name: str) -> str:
    """The text of ``lua/<name>.lua`` of a package."""
    return resources.files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")


def _needed(shared: str, text: str) -> str:
    """Statements of preludes that a script needs: each function that stands before it costs Redis time at every run."""
    words, needed = _words(text), list[str]()
    for statement in reversed(_STATEMENTS.findall(shared)):
        (names,) = _NAMES.findall(statement)
        if words.intersection(re.findall(r"\w+", names)):
            needed.insert(0, statement)
            words |= _words(statement)
    return "".join(needed)


_LOCALS = "local tonumber = tonumber\nlocal math = math\nlocal ipairs = ipairs\n"
"""Lua reads its own locals in half the time of what is global."""
_STATEMENTS = re.compile(r"(?:^--.*\n)*^local .*\n(?:(?:(?:end|[ }]).*)?\n)*", re.MULTILINE)
_NAMES = re.compile(r"^local (?:function )?([\w, ]+)", re.MULTILINE)
_NO_CODE = re.compile(r"--.*|'[^'\n]*'")


def _words(lua: str) -> set[str]:
    return set(re.findall(r"\w+", _NO_CODE.sub("", lua)))


def _in_order(preludes: Iterable[Prelude]) -> list[Prelude]:
    """Preludes behind those that they need, each once."""
    ordered: dict[Prelude, None] = {}
    for prelude in preludes:
        ordered |= dict.fromkeys((*_in_order(prelude.needs), prelude))
    return list(ordered)


Shape = Literal["text", "number", "flag"]


class _Scalar(NamedTuple):
    """How one value is passed, and what Lua makes of it."""

    shape: Shape
    optional: bool

    @property
    def changed(self) -> bool:
        """Whether Redis takes another value for it."""
        return self.shape == "flag" or self.optional

    def python(self, name: str) -> str:
        """The expression that makes the value for Redis."""
        value = f"int({name})" if self.shape == "flag" else name
        return f"'' if {name} is None else {value}" if self.optional else value

    def lua(self, place: str) -> str:
        """The expression that reads it."""
        match self.shape:
            case "number":  # of '' there is none
                return f"tonumber({place})"
            case "flag":
                return f"{place} == '1'"
            case "text":
                return f"{place} ~= '' and {place} or nil" if self.optional else place


class _List:
    """A list of values, or of rows of them."""

    def __init__(self, item: Any) -> None:
        rows = get_type_hints(item) if hasattr(item, "_fields") else {}
        self.is_row = bool(rows)
        self.fields = {name: _scalar(hint) for name, hint in (rows or {"": item}).items()}

    @property
    def is_plain(self) -> bool:
        """Whether it is one of texts."""
        return list(self.fields.items()) == [("", _TEXT)]

    def python(self, name: str) -> str:
        """The expression that lists its values for Redis, one behind the other."""
        if not any(scalar.changed for scalar in self.fields.values()):
            return f"chain.from_iterable({name})" if self.is_row else name
        fields = {field or "item": scalar for field, scalar in self.fields.items()}
        reads = ", ".join(scalar.python(field) for field, scalar in fields.items())
        if self.is_row:
            return f"chain.from_iterable(({reads},) for {', '.join(fields)}, in {name})"
        return f"({reads} for item in {name})"

    def lua(self, name: str, first: str, last: str) -> str:
        """The loop that fills it from values at these places."""
        reads = [
            (field, scalar.lua(f"ARGV[_at + {at}]" if at else "ARGV[_at]"))
            for at, (field, scalar) in enumerate(self.fields.items())
        ]
        if self.is_row:
            item = f"{{{', '.join(f'{field} = {read}' for field, read in reads)}}}"
        else:
            item = reads[0][1]
        step = f", {len(reads)}" if len(reads) > 1 else ""
        return f"for _at = {first}, {last}{step} do {name}[#{name} + 1] = {item} end"


_TEXT = _Scalar("text", optional=False)


_Flatten = Callable[..., tuple[tuple[str, ...], tuple[Value, ...]]]


class _Bindings:
    """The names of a script, and their places among its KEYS and ARGV: keys, scalars, and lists at the end."""

    def __init__(self, hints: dict[str, Any]) -> None:
        self.keys = [name for name, hint in hints.items() if hint == Key]
        self.key_list = next((name for name, hint in hints.items() if hint == Keys), "")
        arguments = {name: hint for name, hint in hints.items() if hint not in {Key, Keys}}
        self.lists = {
            name: _List(*get_args(hint))
            for name, hint in arguments.items()
            if get_origin(hint) is Sequence
        }
        self.scalars = {
            name: _scalar(hint) for name, hint in arguments.items() if name not in self.lists
        }

    @cached_property
    def flatten(self) -> _Flatten:
        """The function from the values by name to the KEYS and the ARGV.

        It is compiled, as a NamedTuple's is, since a message makes six such calls, and a loop over the names takes half as long again.
        """
        key_lists = [self.key_list] if self.key_list else []
        keys = [*self.keys, *(f"*{name}" for name in key_lists)]
        arguments = [scalar.python(name) for name, scalar in self.scalars.items()]
        arguments += [f"len({name})" for name in self.lists][:-1]
        arguments += [f"*{items.python(name)}" for name, items in self.lists.items()]
        names = [*self.keys, *key_lists, *self.scalars, *self.lists]
        parameters = ", ".join(["*", *names] if names else [])
        flatten = f"lambda {parameters}: ({_tuple(keys)}, {_tuple(arguments)})"
        function: _Flatten = eval(flatten, {"chain": chain})  # noqa: S307 - names of parameters in our own code
        return function

    @property
    def lua(self) -> str:
        """Lines that bind the names."""
        reads = {name: f"KEYS[{at}]" for at, name in enumerate(self.keys, 1)}
        reads |= {
            name: scalar.lua(f"ARGV[{at}]")
            for at, (name, scalar) in enumerate(self.scalars.items(), 1)
        }
        lines = [f"local {', '.join(reads)} = {', '.join(reads.values())}"] if reads else []
        if self.key_list and self.keys:
            lines.append(f"local {self.key_list} = {{unpack(KEYS, {len(self.keys) + 1})}}")
        elif self.key_list:
            lines.append(f"local {self.key_list} = KEYS")
        if self.lists:
            lines += self._lua_of_lists()
        return "\n".join([*lines, ""])

    def _lua_of_lists(self) -> list[str]:
        before, (*sized, last) = len(self.scalars), self.lists
        names = ", ".join(self.lists)
        if not before + len(sized) and self.lists[last].is_plain:
            return [f"local {names} = ARGV"]
        lines = [f"local {names} = {', '.join('{}' for _ in self.lists)}"]
        if not sized:
            return [*lines, self.lists[last].lua(last, str(before + 1), "#ARGV")]
        lines.append(f"do local _last = {before + len(sized)}")
        for at, name in enumerate(sized, before + 1):
            end = f"_last + ARGV[{at}] * {len(self.lists[name].fields)}"
            lines += [self.lists[name].lua(name, "_last + 1", end), f"_last = {end}"]
        return [*lines, self.lists[last].lua(last, "_last + 1", "#ARGV"), "end"]


def _tuple(expressions: Iterable[str]) -> str:
    return f"({''.join(f'{expression}, ' for expression in expressions)})"


def _scalar(hint: Any) -> _Scalar:
    """How values of a type are passed."""
    options = {hint}
    if get_origin(hint) in {Union, types.UnionType}:
        options = set(get_args(hint))
    optional = types.NoneType in options
    shapes: set[Shape] = {_shape(option) for option in options - {types.NoneType}}
    return _Scalar("text" if "text" in shapes else shapes.pop(), optional)


def _shape(hint: Any) -> Shape:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hint is bool:
        return "flag"
    return "number" if hint in {int, float} else "text"
