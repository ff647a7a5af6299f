"""The receivers that the guide shows, run as their readers would, with our notices."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import wait_until
from dingrelay_producers.settings import Settings
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import secret
from dingrelay_workers.webhooks.http import Receipt, Sender
from fundamentals.documents import GUIDE, code_blocks

ENGLISH, CHINESE = GUIDE["webhooks.md"]
RUNTIMES = {
    "py": (sys.executable,),
    "js": ("node",),
    "java": ("java",),
    "go": ("go", "run"),
}
NAMES = {"py": "receive.py", "js": "receive.mjs", "java": "Receive.java", "go": "receive.go"}
OURS, OTHERS = b"o" * 32, b"x" * 32


RECEIVERS = {language: code for language, code in code_blocks(ENGLISH) if "SECRET" in code}


def test_there_is_one_for_each_language() -> None:
    assert set(RECEIVERS) == set(RUNTIMES)
    both = [
        [block for block in code_blocks(page) if block[0] in RUNTIMES]
        for page in (ENGLISH, CHINESE)
    ]
    assert both[0] == both[1]


@contextmanager
def running(language: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The receiver's URL, and where it writes."""
    command = RUNTIMES[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    path, log = folder / NAMES[language], folder / "log.txt"
    path.write_text(RECEIVERS[language], "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    variables = {**os.environ, "SECRET": secret.spelled(OURS), "PORT": str(port)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, str(path)],
            env=variables,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        # Go has its own library still to compile where nothing is in its cache.
        wait_until(lambda: _listens(port), timeout=280, what=f"{language} listens", pause=0.1)
        yield f"http://127.0.0.1:{port}/", log
    finally:
        os.killpg(process.pid, 9)  # `go run` starts what it has built
        process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(400)
@pytest.mark.parametrize("language", RUNTIMES)
async def test_it_takes_what_is_signed_and_nothing_else(language: str, tmp_path: Path) -> None:
    sender = Sender(Settings.load(env="test"))

    with running(language, tmp_path) as (url, log):
        # A compiler may have taken minutes, and a moment is right or wrong by minutes.
        now = datetime.now(UTC)
        notice = Notice(type="job.done", app="default", at=now, data={"text": '你好 "\\ \ud83d'})
        body = secret.body(notice)

        async def answer(content: bytes, at: datetime, *secrets: bytes) -> Receipt:
            headers = secret.headers(notice, body, at, secrets)
            return await sender.post(url, content, headers)

        good = await answer(body, now, OURS)
        assert (good.verdict, good.status) == ("taken", 204)
        assert (await answer(body, now, OTHERS, OURS)).verdict == "taken"
        wait_until(lambda: notice.id in log.read_text("utf-8", "replace"), what="it has the id")
        for content, at, by in (
            (body, now, OTHERS),
            (body.replace(b"done", b"dead"), now, OURS),
            (body, now - timedelta(minutes=6), OURS),
            (body, now + timedelta(minutes=6), OURS),
        ):
            assert (await answer(content, at, by)).status == 401
        right = secret.headers(notice, body, now, [OURS])
        for wrong in (
            {},
            *({name: right[name] for name in right if name != missing} for missing in right),
            right | {"webhook-timestamp": "soon"},
            right | {"webhook-signature": "v1,é"},
            right | {"webhook-signature": ""},
        ):
            assert (await sender.post(url, body, wrong)).status in {400, 401}
        # Anybody can send that, so it must not have ended the receiver.
        assert (await answer(body, now, OURS)).verdict == "taken"
    await sender.close()
