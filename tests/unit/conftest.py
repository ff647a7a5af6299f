"""Fixtures for tests of the sandbox without a socket."""

import pytest

from unit.sandbox_caller import Caller


@pytest.fixture
def caller() -> Caller:
    """An app that calls without a limit of calls."""
    caller = Caller()
    caller.limit(calls="")
    return caller
