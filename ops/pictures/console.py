"""Take the pictures of the console that the documents show: ``make pictures``.

A system with a sandbox runs in a folder of its own, gets some messages, and is looked at in Chinese and in English.
"""

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import Browser, sync_playwright

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.testing.fixtures import started
from dingrelay_workers.campaigns.documents import DraftContent
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.database.database import upsert
from dingrelay_workers.database.schema import opened
from dingrelay_workers.history.models import QuarterRow
from dingrelay_workers.history.quarters import QUARTER, SHOWN, beginning_of

DOCS = Path(__file__).parents[2] / "docs"
LANGUAGES = {"zh-CN": ".zh-CN", "en-US": ""}
"""A browser's language → what stands before the ending of a picture's name."""
SIZE = {"width": 1000, "height": 640}
LARGEST = 150_000
"""Bytes of a picture."""
NOTICE = "大家好，办公室将于本周六搬至创新大厦 12 层，请在周五下班前整理好个人物品。"
MOVE = {
    "name": "办公室搬迁通知",
    "app": "default",
    "message": {
        "msgtype": "markdown",
        "markdown": {"title": "办公室搬迁", "text": f"#### 办公室搬迁\n\n{NOTICE}"},
    },
    "everyone": True,
}
MEETING, HOLIDAY = (
    "明天上午十点，三楼大会议室开会。",
    "中秋节 9 月 25 日至 27 日放假，祝大家节日快乐。",
)
DAY_ZONE = ZoneInfo("Asia/Shanghai")
WAITING = 400
"""Messages to one person each, which wait for DingTalk's limit."""


def _dingrelay(*arguments: str, lines: str = "") -> Any:
    """The JSON output of a command."""
    command = [sys.executable, "-m", "dingrelay_producers.cli", "--json", *arguments]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


async def _draft() -> str:
    async with opened(Settings.load()) as database:
        ACTOR.set(Actor("console", "u1", person="u1"))
        return (await Drafts(Settings.load(), database).write(DraftContent.parse(MOVE))).id


async def _write_day() -> None:
    """Write the day before this hour, as a company that works from nine to six would have had it."""
    present = beginning_of(clock.now())
    rows: list[dict[str, Any]] = []
    for number in range(1, SHOWN):
        at = present - number * QUARTER
        hour = at.astimezone(DAY_ZONE).hour + at.minute / 60
        share = math.exp(-((hour - 10) ** 2) / 6) + 0.7 * math.exp(-((hour - 15.5) ** 2) / 8)
        calls = round(900 * share) + 12
        failed = round(calls / 150) if number % 7 == 0 else 0
        rows.append(
            {
                "at": at,
                "calls": calls,
                "waiting": round(calls / 5),
                "done": calls - failed,
                "failed": failed,
            }
        )
    async with opened(Settings.load()) as database, database.write("pictures") as connection:
        await upsert(connection, QuarterRow, rows)


def _fill() -> dict[str, str]:
    """Send some messages; the name of a picture → the path of its page."""
    _dingrelay("sync", "--wait")
    asyncio.run(_write_day())
    # DingTalk drops the second one in silence.
    for _ in range(2):
        _dingrelay("send", "--to", "u1,u2", "--sender", "hr", "--text", MEETING, "--wait")
    _dingrelay("call", "GET", "/v1.0/nothing", "--wait")
    made = _dingrelay("campaign", "create", "中秋节放假安排", "--text", HOLIDAY, "--everyone")
    _dingrelay("campaign", "start", made["id"])
    content = {"msgtype": "text"}
    jobs = [
        {"to": {"users": [f"u{number}"]}, "sender": "crm", "lane": "bulk"}
        | {"message": content | {"text": {"content": f"您有一条新的客户线索（{number}）"}}}
        for number in range(1, WAITING)
    ]
    _dingrelay("send", "--jobs", "-", lines="\n".join(map(json.dumps, jobs)))
    return {
        "console": "/",
        "console-person": "/people/u1",
        "console-write": f"/campaigns/{asyncio.run(_draft())}/write",
        "console-broadcast": f"/campaigns/{made['id']}",
    }


def _take(browser: Browser, pages: dict[str, str], into: Path) -> None:
    for language, ending in LANGUAGES.items():
        context = browser.new_context(locale=language, viewport=SIZE)
        page = context.new_page()
        link = _dingrelay("console", "login-link", "u1")["link"]
        page.goto(link)
        page.click("main button")
        for name, path in pages.items():
            page.goto(link.partition("/sign-in")[0] + path)
            file = into / f"{name}{ending}.png"
            page.screenshot(path=file)
            if file.stat().st_size > LARGEST:
                raise SystemExit(f"{file} is larger than {LARGEST} bytes")
            print(file)


def main() -> None:
    """Take all pictures into ``docs``, or into the folder that is named."""
    into = Path(*sys.argv[1:]).resolve() if sys.argv[1:] else DOCS
    shell = shutil.which("chromium-headless-shell")
    if shell is None:
        raise SystemExit("chromium-headless-shell is not installed; .ci/servers installs it")
    with tempfile.TemporaryDirectory() as folder, started(Path(folder)) as variables:
        os.environ.update(variables)
        pages = _fill()
        with sync_playwright() as play:
            _take(play.chromium.launch(executable_path=shell, args=["--no-sandbox"]), pages, into)


if __name__ == "__main__":
    main()
