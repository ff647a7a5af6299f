"""The declaration of an API: where it is, and how its calls count. Its function says what it does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dingrelay_sandbox.answers import Answer, Dialect, too_many
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState

Access = Literal["token", "own"]
Fields = Mapping[str, Any]
"""Fields of a plain success, in the order of the answer."""
Run = Callable[[SandboxState, Call], Answer | Fields]


@dataclass(frozen=True, slots=True)
class Api:
    """One API.

    Attributes:
        run: carries out a call; the fields of a plain success, or a whole answer.
        access: what it takes to call it: an app's token, or what the API checks itself.
        counted: whether its calls count against the organisation's month (API §6).
        takes_file: whether its body is a form with a file.
    """

    run: Run
    access: Access = "token"
    counted: bool = False
    takes_file: bool = False


DECLARED: dict[tuple[str, str], Api] = {}
"""Method and path → API. An id before the last part of a path is ``{id}``."""


def api(method: str, path: str, **more: Any) -> Callable[[Run], Run]:
    """Declare the API that a function carries out; `more` as `Api` has it."""

    def declare(run: Run) -> Run:
        DECLARED[method, path] = Api(run, **more)
        return run

    return declare


def check_rate(state: SandboxState, call: Call) -> None:
    """Count a call of an app that is known, and refuse it over the rate."""
    breach = state.limiter.call(call.caller.app_key, call.method, call.path, call.at)
    if breach is not None:
        code = state.limits.throttle_code
        raise too_many(call.dialect, call.path, breach, at=call.at, code=code)


def dialect_of(path: str) -> Dialect:
    """The dialect of a path."""
    return "rest" if path.startswith("/v1.0/") else "oapi"


def find(method: str, path: str) -> Api | None:
    """The API at a path."""
    found = DECLARED.get((method, path))
    if found is None and path.startswith("/v1.0/"):
        rest, _, last = path.rpartition("/")
        start, _, identity = rest.rpartition("/")
        return DECLARED.get((method, f"{start}/{{id}}/{last}")) if identity else None
    return found
