"""Logs of the gateway when a library fails: the class and the place."""

import sys

import pytest

from support import processes

FAIL = """
import asyncio, gc, logging, sys
from dingrelay_producers import logs
from dingrelay_producers.settings import Settings

logs.configure(Settings.load(env="sandbox", log_format=sys.argv[1], log_level="DEBUG"))

async def fails(secret):
    raise ValueError(secret)

async def main():
    task = asyncio.create_task(fails("drk_abc.secret"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    try:
        await fails("drk_abc.secret")
    except ValueError:
        logging.getLogger("library").exception("failed")

asyncio.run(main())
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_librarys_exception_is_shown_without_its_values(log_format: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FAIL, log_format]
    log = processes.run(command, capture_output=True, text=True, check=True).stderr
    assert "Task exception was never retrieved" in log
    assert log.count("ValueError") == 2
    assert "<string>:" in log
    assert "secret" not in log.replace("fails(secret", "")
