"""Fixtures for tests of the sandbox and of the simulation without a socket."""

from collections.abc import Iterator

import pytest

from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.loop import VirtualLoop
from unit.sandbox_caller import Caller


@pytest.fixture
def caller() -> Caller:
    """An app that calls without a limit of calls."""
    caller = Caller()
    caller.limit(calls="")
    return caller


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop in virtual time, which begins at 0."""
    CLOCK.now = 0.0
    loop = VirtualLoop()
    yield loop
    loop.close()
    CLOCK.now, CLOCK.process = 0.0, None
