"""Background work that looks at the same moments, and so shares its round trips."""

import asyncio
import time

import pytest

from dingrelay_workers.maintenance.pace import in_step


@pytest.mark.parametrize(
    ("passed", "period", "slept"),
    [
        (0.0, 0.25, 0.25),
        (0.002, 0.25, 0.248),
        (0.2499, 0.25, 0.0001),
        (7.3, 0.25, 0.2),
        (7.3, 1.0, 0.7),
    ],
)
async def test_works_of_different_length_go_on_at_the_same_moments(
    monkeypatch: pytest.MonkeyPatch, passed: float, period: float, slept: float
) -> None:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: 100.0 + passed)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await in_step(100.0, period)
    assert sleeps == [pytest.approx(slept)]
