"""Scripted faults: what goes wrong, for which calls, how often, before or after the effect, and the answer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dingrelay_sandbox import answers
from dingrelay_sandbox.answers import Answer, Dialect, Refusal, json_answer
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.scripted import Scripted, Spec

FaultKind = Literal[
    "throttle",
    "error",
    "token_expired",
    "credentials_refused",
    "http",
    "html",
    "hang",
    "latency",
    "truncated",
    "wrong_types",
    "reset_before",
    "reset_after",
    "lost_answer",
]

AFTER_EFFECT = frozenset({"truncated", "wrong_types", "reset_after", "lost_answer"})
"""The kinds that let the call have its effect first, unless `effect` says otherwise."""
FIXED = frozenset({"reset_before", "reset_after"})
"""The kinds whose name says when they strike."""
TOKEN_APIS = ("/gettoken", "/v1.0/oauth2/")
"""Paths that return tokens."""


class FaultSpec(Spec, frozen=True):
    """One scripted fault.

    Attributes:
        kind: what happens. ``throttle`` and ``error`` answer with a code, ``token_expired`` also
            ends the caller's tokens, ``credentials_refused`` meets token calls only, ``http`` and
            ``html`` answer what is no JSON, ``hang`` never answers, ``latency`` delays,
            ``truncated`` and ``wrong_types`` spoil the answer, ``reset_before`` and
            ``reset_after`` reset the connection, ``lost_answer`` closes it without an answer.
        effect: whether the call is carried out first. None: only with ``truncated``,
            ``wrong_types``, ``reset_after`` and ``lost_answer``. A ``latency`` with an effect
            delays the answer, one without the arrival.
        api: the calls it meets, by the start of their path, or several such; ``*`` for all.
        dialect: only calls to this one of DingTalk's two hosts.
        match: parameters (body or query) that a call must carry with these values, too.
        code, message: of the answer to ``throttle``, ``error`` and ``http``.
        status, body, headers: of any answer; a body replaces the kind's own, a text as it is,
            anything else as JSON.
    """

    kind: FaultKind
    effect: bool | None = None
    api: str | tuple[str, ...] = "*"
    dialect: Dialect | None = None
    match: dict[str, str | int | bool] = Field(default_factory=dict[str, str | int | bool])
    code: str | None = None
    message: str = ""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])

    @model_validator(mode="before")
    @classmethod
    def _code_as_text(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("code"), int):
            return {**data, "code": str(data["code"])}
        return data

    @model_validator(mode="after")
    def _effect_makes_sense(self) -> Self:
        if self.kind in FIXED and self.effect is not None:
            raise ValueError(f"effect: {self.kind} says when it strikes")
        return self

    @property
    def after_effect(self) -> bool:
        """Whether the call is carried out first."""
        return self.kind in AFTER_EFFECT if self.effect is None else self.effect

    @property
    def apis(self) -> tuple[str, ...]:
        """The starts of the paths that it meets."""
        starts = (self.api,) if isinstance(self.api, str) else self.api
        return tuple("" if start == "*" else start for start in starts)

    def fits(self, call: Call) -> bool:
        """Whether it is about a call like this."""
        if not call.path.startswith(self.apis):
            return False
        if self.kind == "credentials_refused" and not call.path.startswith(TOKEN_APIS):
            return False
        if self.dialect not in {None, call.dialect} or self.app not in {None, call.app_key}:
            return False
        if not self.match:
            return True
        given = call.fault_parameters
        return all(str(given.get(name)) == str(value) for name, value in self.match.items())


class Faults(Scripted[FaultSpec]):
    """All faults; the oldest that fits meets the call, latency adds up."""

    def delay(self, call: Call, *, effect: bool) -> float:
        """Seconds by which faults delay the arrival of this call, or its answer."""
        met = self.met(
            lambda spec: spec.kind == "latency" and spec.after_effect is effect and spec.fits(call)
        )
        return sum(self._rng.uniform(spec.min_ms, spec.max_ms) for spec in met) / 1_000

    def draw(self, call: Call) -> FaultSpec | None:
        """The fault that meets this call, if one does."""
        return next(self.met(lambda spec: spec.kind != "latency" and spec.fits(call)), None)


def fault_code(spec: FaultSpec) -> str:
    """How the audit names the fault's answer."""
    return spec.code or (str(spec.status) if spec.status else spec.kind)


def faulty_answer(spec: FaultSpec, call: Call, own: Answer | None = None) -> Answer:
    """The answer that a fault gives.

    Args:
        spec: the fault.
        call: the call that it answers.
        own: DingTalk's answer; None where the call was not carried out.
    """
    answer = _answer(spec, call, own or _hollow(call))
    return replace(answer, status=spec.status or answer.status, headers=tuple(spec.headers.items()))


def _answer(spec: FaultSpec, call: Call, own: Answer) -> Answer:
    if spec.body is not None:
        return _verbatim(spec, call)
    match spec.kind:
        case "truncated":
            return replace(own, body=own.body[: len(own.body) // 2])
        case "wrong_types":
            return _wrong_types(own)
        case "html":
            return Answer(200, answers.GATEWAY_PAGE, "text/html")
        case "http":
            return Answer(502, (spec.message or "upstream connect error").encode(), "text/plain")
        case _:
            return _refusal(spec, call).answer(call.dialect, call.request_id)


def _refusal(spec: FaultSpec, call: Call) -> Refusal:
    match spec.kind:
        case "throttle":
            code, message = spec.code or "", spec.message
            return answers.throttled(call.dialect, call.path, code=code, message=message)
        case "token_expired":
            return answers.token_refused(call.dialect, "expired")
        case "credentials_refused":
            return answers.credentials_refused(call.dialect)
        case _:
            code = spec.code or ("-1" if call.dialect == "oapi" else "systemError")
            message = spec.message or answers.MESSAGES.get(code, answers.MESSAGES["-1"])
            return Refusal(code, message, status=500)


def _verbatim(spec: FaultSpec, call: Call) -> Answer:
    status = 200 if call.dialect == "oapi" else 400
    if isinstance(spec.body, str):
        content_type = "text/html" if spec.kind == "html" else "application/json"
        return Answer(status, spec.body.encode(), content_type)
    return json_answer(spec.body, status)


def _hollow(call: Call) -> Answer:
    """A success without an effect, for a fault that spoils an answer without one."""
    fields = {"result": True, "success": True} if call.dialect == "rest" else {}
    return answers.success(call.dialect, call.request_id, fields)


def _wrong_types(own: Answer) -> Answer:
    try:
        content = json.loads(own.body)
    except ValueError:
        return own
    changed = {name: _other_type(value) for name, value in content.items()}
    return json_answer(changed, own.status)


def _other_type(value: object) -> object:
    match value:
        case bool() | int() | float():
            return [value]
        case str():
            return {"value": value}
        case _:
            return "[object Object]"
