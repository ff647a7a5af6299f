"""Readiness of a process: its servers, asked on its loop when a probe comes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.sentence import en

CHECK_SECONDS = 1.8
"""A server that takes longer to answer counts as away."""

Check = Callable[[], Awaitable[None]]
"""Asks a server; raises `ServiceUnavailable` if it is away."""


async def away(checks: Mapping[str, Check]) -> dict[str, str]:
    """The servers that can't be used, and why; all are asked at the same time.

    Args:
        checks: server → asks it.
    """
    reasons = await asyncio.gather(*map(problem_of, checks.values()))
    return {name: reason for name, reason in zip(checks, reasons, strict=True) if reason}


async def problem_of(check: Check) -> str:
    """The error of a server; empty for none."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except ServiceUnavailable as error:
        return str(error)
    except TimeoutError:
        return en("does not answer")
    except Exception as error:  # noqa: BLE001 - whatever it is, the server can't be used; its text may hold a secret
        return type(error).__name__
    return ""
