"""Scripted faults: what goes wrong, for which calls, how often, and before or after the effect."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dingrelay_sandbox.answers import Dialect
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
"""Where tokens are fetched."""


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
