"""Faults of a run, and the record of them: which process or server, from when to when."""

import math
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from dingrelay_producers.store.script_functions import DECLARED
from dingrelay_sandbox.faults import FaultSpec
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.dingtalk import APP
from dingrelay_simulation.draws import PORTS, WORKERS
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.network import DINGTALK, VALKEY, End, Line
from dingrelay_simulation.plan import Step

APPLICATION = PORTS["application"]
NAMES = tuple(f"w{number}" for number in range(WORKERS))
"""The workers' names, in the order of their numbers."""


@dataclass
class Trouble:
    """A fault that was in force.

    Attributes:
        name: of the fault.
        subject: the process or server that it struck.
        since, until: seconds from the beginning.
    """

    name: str
    subject: str
    since: float
    until: float = math.inf


@dataclass
class _Trap:
    """A fault that waits for a message: of a worker to or from a server, or of any worker that runs a script.

    Attributes:
        messages: how many are to come.
        asked: the end at which the script's answer arrives, once that is what is waited for.
    """

    step: Step
    messages: int
    asked: End | None = None

    def meets(self, end: End, data: bytes | None, whens: tuple[str, ...]) -> bool:
        """Whether it is one of the messages."""
        values, name = self.step.values, end.process.name if end.process else ""
        if self.asked:
            return end is self.asked and "answer" in whens
        if script := values.get("script"):
            return name in NAMES and "before" in whens and _hash(script) in (data or b"")
        return (
            name == NAMES[values["worker"]]
            and end.port == PORTS[values["to"]]
            and values["when"] in whens
        )


@cache
def _hash(script: str) -> bytes:
    """The hash by which messages to Redis name a script."""
    (function,) = (function for function in DECLARED if function.name == script)
    return function.script.sha.encode()


class Faults:
    """Carries faults out.

    Attributes:
        troubles: faults, and when they were in force.
        forgotten: times that Redis has no record of: (since, until).
        over: no fault strikes any more.
    """

    def __init__(self, fleet: Fleet, note: Callable[..., None]) -> None:
        self.troubles: list[Trouble] = []
        self.forgotten: list[tuple[float, float]] = []
        self.over = False
        self._fleet = fleet
        self._note = note
        self._traps: list[_Trap] = []
        self._cuts = Counter[tuple[str, int]]()
        """Faults that cut a process off from a port just now."""
        fleet.network.on_send = self._sent
        fleet.network.on_arrive = self._arrived

    def begin(self, step: Step) -> None:
        """Let a fault strike."""
        self._note("fault", step.name, step.values)
        getattr(self, f"_{step.name}")(step)

    def _trouble(self, name: str, subject: str, seconds: float | None = None) -> Trouble:
        trouble = Trouble(
            name, subject, CLOCK.now, math.inf if seconds is None else CLOCK.now + seconds
        )
        self.troubles.append(trouble)
        return trouble

    def _later(self, seconds: float, act: Callable[..., Any], *arguments: Any) -> None:
        # A trap strikes within its worker, which is frozen or dead by then.
        self._fleet.loop.call_later(seconds, act, *arguments, context=Context())

    def _kill(self, step: Step) -> None:
        number, back = (
            step.values["worker"],
            step.values.get("back", step.values.get("seconds", 1.0)),
        )
        self._trouble("kill", f"w{number}", back)
        self._fleet.kill(number)
        self._later(back, self._fleet.restart, number)

    def _stop(self, step: Step) -> None:
        number = step.values["worker"]
        self._trouble("stop", f"w{number}", 40.0)
        self._fleet.stop(number, step.values["back"])

    def _freeze(self, step: Step) -> None:
        worker = self._fleet.workers[step.values["worker"]]
        if worker.process.dead or worker.process.frozen:
            return
        self._trouble("freeze", worker.process.name, step.values["seconds"])
        worker.process.frozen = True
        self._later(step.values["seconds"], self._thaw, worker.process)

    def _thaw(self, process: Any) -> None:
        if process.frozen:
            self._fleet.loop.thaw(process)

    def _cut(self, step: Step) -> None:
        name, port = f"w{step.values['worker']}", PORTS[step.values["to"]]
        self._trouble(f"cut from {step.values['to']}", name, step.values["seconds"])
        line = Line(self._fleet.network.lines[port].latency, silent=True)
        self._fleet.network.cut.setdefault((name, port), line)
        self._cuts[name, port] += 1
        self._later(step.values["seconds"], self._end_cut, (name, port))

    def _end_cut(self, way: tuple[str, int]) -> None:
        self._cuts[way] -= 1
        if not self._cuts[way]:
            self._join(way)

    def _join(self, way: tuple[str, int]) -> None:
        if line := self._fleet.network.cut.pop(way, None):
            self._fleet.network.heal(line)

    def _clock(self, step: Step) -> None:
        process = self._fleet.workers[step.values["worker"]].process
        self._trouble("clock", process.name)
        process.offset += step.values["by"]

    def _redis_slow(self, step: Step) -> None:
        line, by = self._fleet.network.lines[VALKEY], step.values["by"]
        # What left while it was slow arrives so much later.
        self._trouble("redis slow", "redis", step.values["seconds"] + by)
        line.slow += by

        def end() -> None:
            line.slow = max(0.0, line.slow - by)

        self._later(step.values["seconds"], end)

    def _redis_silent(self, step: Step) -> None:
        line = self._fleet.network.lines[VALKEY]
        self._trouble("redis silent", "redis", step.values["seconds"])
        line.silent = True
        self._later(step.values["seconds"], self._fleet.network.heal, line)

    def _redis_restart(self, step: Step) -> None:
        line, lost = self._fleet.network.lines[VALKEY], step.values["lost"]
        if line.refused:
            return
        self._fleet.valkey.save()

        def fall() -> None:
            self._trouble("redis restart", "redis", step.values["seconds"])
            line.refused = True
            self._fleet.network.reset(VALKEY)
            self._fleet.valkey.restart(forgets=lost > 0)
            if lost:
                self.forgotten.append((CLOCK.now - lost, CLOCK.now + 2 * line.slow))
                self._note("redis lost", lost)

        def rise() -> None:
            line.refused = False

        self._later(lost, fall)
        self._later(lost + step.values["seconds"], rise)

    def _redis_full(self, step: Step) -> None:
        self._trouble("redis full", "redis", step.values["seconds"])
        self._fleet.valkey.configure("maxmemory", "1")
        self._later(step.values["seconds"], self._fleet.valkey.configure, "maxmemory", "0")

    def _dingtalk_away(self, step: Step) -> None:
        line = self._fleet.network.lines[DINGTALK]
        self._trouble("dingtalk away", "dingtalk", step.values["seconds"])
        line.refused = True
        self._fleet.network.reset(DINGTALK)

        def back() -> None:
            line.refused = False

        self._later(step.values["seconds"], back)

    def _spec(self, step: Step) -> None:
        spec = FaultSpec.model_validate(step.values)
        self._trouble(spec.kind, "dingtalk", step.values.get("seconds"))
        self._fleet.dingtalk.state.faults.add(spec)

    _throttle = _lost_answer = _sick = _slow = _token = _spec

    def _credentials(self, step: Step) -> None:
        """The secret is refused, and what was fetched with it is of no use: a token is fetched seldom."""
        state = self._fleet.dingtalk.state
        state.tokens.expire(state.clock(), APP)
        self._spec(replace(step, values={**step.values, "api": "*"}))

    def _database(self, step: Step) -> None:
        """Statements of a worker fail, before their effect or after it."""
        name, values = f"w{step.values['worker']}", step.values
        self._trouble("database", name, values["seconds"])
        faults, fault = self._fleet.databases.faults, (values["when"], values["share"])
        faults[name] = fault

        def mend() -> None:
            if faults.get(name) is fault:
                del faults[name]

        self._later(values["seconds"], mend)

    def _application(self, step: Step) -> None:
        """The application that gets webhooks misbehaves, or is away."""
        manner, seconds = step.values["manner"], step.values["seconds"]
        self._trouble(f"application {manner}", "application", seconds)
        line, application = self._fleet.network.lines[APPLICATION], self._fleet.application
        line.refused = manner == "away"
        application.manner = manner

        def mend() -> None:
            line.refused, application.manner = False, ""

        self._later(seconds, mend)

    def _trap(self, step: Step) -> None:
        self._traps.append(_Trap(step, step.values["count"]))

    _kill_at = _freeze_at = _cut_at = _lose_at = _at_script = _trap

    def _sent(self, end: End, data: bytes | None) -> bool:
        return self._sprung(end, data, ("before", "after"))

    def _arrived(self, end: End, data: bytes | None) -> bool:
        return self._sprung(end, data, ("answer",))

    def _sprung(self, end: End, data: bytes | None, whens: tuple[str, ...]) -> bool:
        """Whether the message goes on."""
        if not self._traps or self.over or not end.process:
            return True
        goes_on = True
        for trap in [trap for trap in self._traps if trap.meets(end, data, whens)]:
            trap.messages -= 1
            values = trap.step.values
            if trap.messages == 0 and "script" in values and values["when"] == "answer":
                trap.asked = end
            elif trap.messages <= 0:
                self._traps.remove(trap)
                about = (
                    (values["script"],) if "script" in values else (values["to"], values["when"])
                )
                self._note("trap", end.process.name, values["what"], *about)
                goes_on = self._spring(trap.step, end) and goes_on
        return goes_on

    def _spring(self, step: Step, end: End) -> bool:
        """Let a trap strike; whether the message goes on."""
        assert end.process is not None
        if "script" in step.values:
            worker = NAMES.index(end.process.name)
            step = replace(step, values={**step.values, "worker": worker})
        match step.values["what"]:
            case "forget":
                self._redis_restart(step)
                return True
            case "kill" if step.values["when"] == "after":
                self._fleet.loop.call_soon(self._kill, step, context=Context())
                return True
            case "kill":
                self._kill(step)
                return False
            case "freeze":
                self._freeze(step)
                return True
            case "cut":
                self._cut(step)
                return True
            case _:
                self._trouble("lost on the way", end.process.name, 0.5)
                self._fleet.network.reset(end.port, end.process)
                return False

    def end(self) -> None:
        """No fault strikes any more, and those in force end."""
        self.over = True
        fleet = self._fleet
        self._traps.clear()
        fleet.broker.calm = True
        fleet.application.manner = ""
        fleet.databases.faults.clear()
        fleet.dingtalk.state.faults.delete()
        for way in list(fleet.network.cut):
            self._join(way)
        for line in fleet.network.lines.values():
            line.refused, line.slow = False, 0.0
            fleet.network.heal(line)
        fleet.valkey.configure("maxmemory", "0")
        for number, worker in enumerate(fleet.workers):
            self._thaw(worker.process)
            fleet.restart(number)
        for trouble in self.troubles:
            trouble.until = min(trouble.until, CLOCK.now)

    def any_within(self, since: float, until: float) -> bool:
        """Whether a fault was in force anywhere in a time; a clock that is wrong strikes nothing."""
        return any(
            trouble.name != "clock" and trouble.since <= until and trouble.until >= since
            for trouble in self.troubles
        )

    def around(self, since: float, until: float, *subjects: str) -> list[Trouble]:
        """The faults that struck one of these in a time; a clock that is wrong strikes nothing."""
        return [
            trouble
            for trouble in self.troubles
            if trouble.subject in subjects
            and trouble.name != "clock"
            and trouble.since <= until
            and trouble.until >= since
        ]
