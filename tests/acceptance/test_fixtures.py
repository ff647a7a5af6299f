"""The fixture for tests of business applications, as they use it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import wait_until
from dingrelay_producers.testing import fixtures
from dingrelay_producers.testing.fixtures import (
    RunningSystem,
    dingrelay,  # noqa: F401 - fixtures
    dingrelay_start_seconds,  # noqa: F401
    dingrelay_system,  # noqa: F401
    started,
)
from dingrelay_tasks import MessageSend
from support import processes, supervised

APPLICATION = """
from dingrelay_producers import Client
from dingrelay_tasks import MessageSend

content = {"msgtype": "text", "text": {"content": "来自子进程"}}
with Client() as client:
    client.send(MessageSend.parse({"to": {"users": ["u2"]}, "message": content}))
"""


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """The system's programs are forks; in `test_samples` each is an interpreter of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixtures, "subprocess", supervised)
        yield


def test_people_get_what_the_application_sends(dingrelay: RunningSystem) -> None:  # noqa: F811
    content = {"msgtype": "text", "text": {"content": "订单 1 已付款"}}
    job = MessageSend.parse({"to": {"users": ["u1"]}, "message": content})
    status = dingrelay.client.send(job).wait()
    assert status.state == "done", status
    assert dingrelay.messages_to("u1") == [content]


def test_an_application_of_its_own_finds_the_system(dingrelay: RunningSystem) -> None:  # noqa: F811
    assert dingrelay.messages_to("u1") == [], "DingTalk was emptied"
    environment = dict(dingrelay.environment)
    processes.run([sys.executable, "-c", APPLICATION], check=True, env=environment, timeout=60)
    wait_until(lambda: len(dingrelay.messages_to("u2")) == 1)


def test_the_time_to_start_is_the_users_choice(tmp_path: Path) -> None:
    too_short = pytest.raises(
        pytest.fail.Exception, match=r"in 0 s \(fixture dingrelay_start_seconds\)"
    )
    with too_short, started(tmp_path, 0):
        pass
