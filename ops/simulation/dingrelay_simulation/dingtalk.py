"""DingTalk in the simulation: the sandbox's application, behind the network, with a clock of its own."""

import re
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from dingrelay_sandbox import server
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.limits import Limits
from dingrelay_sandbox.server import create_app
from dingrelay_sandbox.state import SandboxState, Start
from dingrelay_sandbox.verdict import Outcome
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.network import End

USERS, DEPARTMENTS = 24, 4
APP, SECRET = "sandbox-key", "sandbox-secret"


class SimulatedDingTalk:
    """The sandbox, in the process of the simulation.

    Attributes:
        state: its truth.
        calls: each call, when it arrived and was counted, and its outcome.
        came: when calls began to leave their workers, and had left, of those that are on their way.
        left: number of a call → when it began to leave its worker, and had left.
        ends: of the connections, by their protocols: of one that is closed by then, aiohttp no longer knows it.
    """

    def __init__(self, limits: Limits, *, offset: float, seed: int) -> None:
        start = Start(users=USERS, departments=DEPARTMENTS, seed=seed, limits=limits, app=App())
        self.state = SandboxState(start, clock=CLOCK.true)
        self.state.clock.offset = offset
        # The network refuses connections.
        self.state.door = SimpleNamespace(shut=False)  # type: ignore[assignment]
        self.calls: list[tuple[float, Any, Outcome]] = []
        self.came: dict[int, tuple[float, float]] = {}
        self.left: dict[int, tuple[float, float]] = {}
        self.ends: dict[Any, End] = {}
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Begin to serve."""
        app = create_app(self.state)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()

    def received(self, tag: str) -> set[str]:
        """Recipients of a message with this text, as people see it there; "" stands for the group."""
        word = re.compile(rf"\b{tag}\b")
        received = {
            entry.user
            for send in self.state.sends.sends
            if word.search(send.content.message)
            for entry in send.entries
            if not entry.reason
        }
        posted = any(word.search(str(post["message"])) for post in self.state.robots.posts)
        return received | ({""} if posted else set())

    async def close(self) -> None:
        """End."""
        if self._runner:
            await self._runner.cleanup()

    def accept(self, end: End | None) -> Any:
        """A new connection."""
        assert self._runner
        make: Any = self._runner.server
        protocol = make()
        if end:
            self.ends[protocol] = end
        return protocol


CURRENT: list[SimulatedDingTalk] = []


def install() -> None:
    """Keep each call and its outcome, of the sandbox that is current."""
    module: Any = server
    respond, read = module.respond, module._call

    def came(request: Any, content: bytes) -> Any:
        call = read(request, content)
        if CURRENT:
            end = CURRENT[-1].ends.get(request.protocol)
            near = end.peer if end else None
            left, departed = CLOCK.now, CLOCK.now
            if near and near.left is not None:
                left, departed = near.left, near.departed
            CURRENT[-1].came[id(call)] = left, departed
        return call

    def noted(state: SandboxState, call: Any) -> Outcome:
        outcome: Outcome = respond(state, call)
        if CURRENT and CURRENT[-1].state is state:
            CURRENT[-1].left[call.id] = CURRENT[-1].came.get(id(call), (CLOCK.now, CLOCK.now))
            CURRENT[-1].calls.append((CLOCK.now, call, outcome))
        return outcome

    module.respond, module._call = noted, came
