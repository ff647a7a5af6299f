"""One call as it arrived, and reading its parameters as DingTalk does."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dingrelay_sandbox.answers import Dialect, Refusal, refused
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.bodies import Passage, Upload

FLAGS = {"true": True, "1": True, "false": False, "0": False}
"""How clients spell booleans: dingtalk-sdk sends Python's ``True`` (API §11.3)."""
LARGEST_WHOLE = 2**63 - 1
MOST_DIGITS = 18


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        payload: the JSON object or form of the body; None without one.
        upload: the file that came with it.
        host: where it came to, as it says itself.
        secure: whether it came encrypted.
        accept: what it wants to be answered with, as it says itself.
        passage: what the call was before the gateway made it a call of its own.
        id: its number, in the order of arrival; 0 while it is on its way.
        at: when it arrived after the inbound latency, in Unix seconds of the sandbox's clock.
        monotonic: the same on a clock that never jumps.
        app: the calling app, once its token is known.
        recipients: what a message call reports to the audit.
        counted: whether it counts against the organisation's month.
    """

    method: str
    path: str
    dialect: Dialect
    query: Mapping[str, str]
    header_token: str
    content_type: str
    payload: dict[str, Any] | None
    size: int
    remote: str
    upload: Upload | None = None
    host: str = ""
    secure: bool = False
    accept: str = "application/json"
    passage: Passage | None = None
    id: int = 0
    at: float = 0
    monotonic: float = 0
    app: App | None = None
    recipients: int = 0
    counted: bool = False

    def arrive(self, number: int, *, at: float, monotonic: float) -> None:
        """Note that the call came to DingTalk, as which one and when."""
        self.id, self.at, self.monotonic = number, at, monotonic

    @property
    def token(self) -> str:
        """The access token, from where its dialect has it."""
        if self.dialect == "rest":
            return self.header_token
        return self.query.get("access_token", "")

    @property
    def app_key(self) -> str:
        """The calling app: by its token, or, where one is fetched, by its own statement."""
        if self.app is not None:
            return self.app.app_key
        given = self.fault_parameters
        key = given.get("appkey") or given.get("appKey") or given.get("client_id")
        key = key or given.get("clientId")
        return key if isinstance(key, str) else ""

    @property
    def request_id(self) -> str:
        """DingTalk's name for the call; each dialect has its own look."""
        if self.dialect == "rest":
            return f"{int(self.at):08X}-0000-7000-8000-{self.id:012X}"
        return f"16l{self.id:010x}"

    @property
    def caller(self) -> App:
        """The calling app; only where a token was checked."""
        assert self.app is not None, "this API needs a token"
        return self.app

    @property
    def fault_parameters(self) -> Mapping[str, Any]:
        """The parameters that a fault's `match` compares."""
        return {**self.query, **(self.payload or {})}

    @property
    def parameters(self) -> "Parameters":
        """The body's fields, or the query's where the method has no body."""
        given = self.query if self.method == "GET" else self.payload or {}
        return Parameters(given, self.dialect)


class Parameters:
    """Typed reading of a call's parameters; what is missing or wrong is refused in its dialect.

    Numbers and booleans may come as text, as DingTalk's own samples show them (API §0), and in a
    form everything does.

    Attributes:
        spelt: how the call spells a name.
    """

    def __init__(self, values: Mapping[str, Any], dialect: Dialect) -> None:
        self._values = values
        self.dialect: Dialect = dialect
        self.spelt: Callable[[str], str] = str

    def _get(self, name: str) -> Any:
        return self._values.get(self.spelt(name))

    def has(self, name: str) -> bool:
        """Whether a parameter is there and not empty."""
        value = self._get(name)
        return value is not None and value != ""

    def raw(self, name: str) -> Any:
        """A required parameter as it came."""
        if not self.has(name):
            raise self.missing(name)
        return self._get(name)

    def text(self, name: str) -> str:
        """A required text."""
        value = self.raw(name)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise self.invalid(name)

    def text_or(self, name: str, default: str, *, longest: int | None = None) -> str:
        """An optional text of so many characters at most."""
        text = self.text(name) if self.has(name) else default
        if longest is not None and len(text) > longest:
            raise self.invalid(name)
        return text

    def whole(self, name: str) -> int:
        """A required whole number."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.invalid(name)
        try:
            number = int(value)
        except (ValueError, OverflowError):
            raise self.invalid(name) from None
        if abs(number) > LARGEST_WHOLE:
            raise self.invalid(name)
        return number

    def whole_or(self, name: str, default: int) -> int:
        """An optional whole number."""
        return self.whole(name) if self.has(name) else default

    def flag_or(self, name: str, *, default: bool) -> bool:
        """An optional boolean."""
        if not self.has(name):
            return default
        value = self.raw(name)
        text = str(value).lower()
        if isinstance(value, dict | list) or text not in FLAGS:
            raise self.invalid(name)
        return FLAGS[text]

    def separated(self, name: str) -> list[str]:
        """An optional list that travels as comma-separated text, or, from the gateway, as JSON."""
        text = self.text_or(name, "")
        if text.startswith("[") and isinstance(found := self.decoded(name), list):
            return [str(part) for part in found]
        return [part for part in text.split(",") if part]

    def separated_wholes(self, name: str) -> list[int]:
        """An optional list of whole numbers that travels as comma-separated text."""
        parts = self.separated(name)
        digits = [part.removeprefix("-") for part in parts]
        if not all(part.isdecimal() and len(part) <= MOST_DIGITS for part in digits):
            raise self.invalid(name)
        return [int(part) for part in parts]

    def decoded(self, name: str) -> Any:
        """A required value that is no text; a form has it as JSON."""
        value = self.raw(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value

    def objects(self, name: str) -> list[dict[str, Any]]:
        """A required list of objects."""
        value = self.decoded(name)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.invalid(name)
        return value

    def texts(self, name: str, *, most: int | None = None) -> list[str]:
        """An optional list of so many texts at most."""
        if self._get(name) is None:
            return []
        value = self.decoded(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.invalid(name)
        if most is not None and len(value) > most:
            raise self.invalid(name)
        return value

    def part(self, name: str) -> "Parameters":
        """A required object."""
        value = self.decoded(name)
        if not isinstance(value, dict):
            raise self.invalid(name)
        return Parameters(value, self.dialect)

    def missing(self, name: str) -> Refusal:
        """The refusal of a call without this parameter (API §3.1, §4.1)."""
        return refused(self.dialect, "missing", self.spelt(name))

    def invalid(self, name: str) -> Refusal:
        """The refusal of a parameter that makes no sense."""
        return refused(self.dialect, "invalid", self.spelt(name))
