"""Examples of the gateway in several languages, run as a reader would."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dingrelay_producers.settings import Settings
from fundamentals.documents import GUIDE, code_blocks
from support.gateways import GatewayClient, gateway_thread

ENGLISH, CHINESE = GUIDE["gateway.md"]
URL = "http://127.0.0.1:8610"
RUNTIMES = {
    "sh": ("bash", "-euo", "pipefail"),
    "js": ("node",),
    "java": ("java",),
    "php": ("php",),
    "go": ("go", "run"),
}
NAMES = {"js": "send.mjs", "java": "Send.java"}


SNIPPETS = [
    (language, code)
    for page in ("README.md", ENGLISH)
    for language, code in code_blocks(page)
    if language in RUNTIMES
]


@pytest.fixture(scope="module")
def served(shared_url: str) -> Iterator[GatewayClient]:
    with gateway_thread(Settings.load(env="sandbox", redis_url=shared_url)) as client:
        yield client


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("language", "code"),
    SNIPPETS,
    ids=[f"{number}-{language}" for number, (language, _) in enumerate(SNIPPETS)],
)
def test_it_runs(
    language: str, code: str, served: GatewayClient, valkey_url: str, tmp_path: Path
) -> None:
    command, *options = RUNTIMES[language]
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    key = served.backend.keys.add("crm")
    path = tmp_path / NAMES.get(language, f"snippet.{language}")
    path.write_text(code.replace(URL, served.url), "utf-8")
    done = subprocess.run(
        [command, *options, str(path)],
        env={**os.environ, "KEY": key},
        capture_output=True,
        text=True,
        timeout=280,  # where Go has its own library still to compile
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error":{' not in done.stdout
    assert "urn:dingrelay:problem" not in done.stdout
    jobs = served.ask("GET", "/v1/jobs", key=key).json["jobs"]
    assert bool(jobs) == ("/v1/jobs?" not in code)


def test_both_languages_show_the_same_snippets() -> None:
    def snippets(page: str) -> list[tuple[str, str]]:
        # A refusal is shown in the language of its page.
        return [each for each in code_blocks(page) if "urn:dingrelay:problem" not in each[1]]

    assert snippets(ENGLISH) == snippets(CHINESE)
