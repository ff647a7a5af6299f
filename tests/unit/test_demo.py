"""The demo's judgement: it must be able to say no."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dingrelay_demo import demo
from dingrelay_demo.requests import ONE_OF_EACH, Expected, message, text, texts
from dingrelay_demo.system import System
from dingrelay_demo.verify import Column, Verdict
from dingrelay_producers import Client, Settings
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import ApprovalCreate
from dingrelay_tasks.message import payload

GOOD = Column(asked=3, accepted=3, delivered=3, lost=0, duplicated=0)
COLUMNS = dict.fromkeys(("messages", "approvals", "people"), GOOD)
VERDICT = Verdict(COLUMNS, unfinished=[], misunderstood=[], token_fetches=1, counts={"jobs": 7})


def test_all_is_well() -> None:
    assert VERDICT.agrees
    assert VERDICT.disagreements == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": COLUMNS | {"messages": replace(GOOD, lost=1)}},
        {"columns": COLUMNS | {"messages": replace(GOOD, duplicated=1)}},
        {"columns": COLUMNS | {"messages": replace(GOOD, delivered=2)}},
        {"columns": COLUMNS | {"approvals": replace(GOOD, accepted=2)}},
        {"columns": COLUMNS | {"people": replace(GOOD, delivered=4)}},
        {"unfinished": ["message-send 1 is dead"]},
        {"misunderstood": ["approval i1: DingTalk says approved, the table running"]},
        {"token_fetches": 2},
        {"token_fetches": 0},
    ],
    ids=str,
)
def test_every_disagreement_is_named(wrong: dict[str, object]) -> None:
    verdict = replace(VERDICT, **wrong)  # type: ignore[arg-type] # each field has its own type
    assert not verdict.agrees
    assert len(verdict.disagreements) == 1


def test_the_table_shows_every_number() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(replace(VERDICT, counts={"jobs": 1593}).table())
    shown = captured.get()
    for words in ("asked for", "lost", "duplicated", "1,593", "token fetches"):
        assert words in shown


def test_messages_are_counted_by_content_and_jobs_by_kind() -> None:
    expected = Expected()
    with Client(Settings.load(env="sandbox")) as client:
        for number, job in enumerate(texts(3, "通知", "bulk")):
            expected.add(client.job(str(number)), job)
        form = {"process_code": "PROC-1", "originator": "u1", "form": {"事由": "出差"}}
        expected.add(client.job("a"), ApprovalCreate.parse(form))
    assert {kind: len(refs) for kind, refs in expected.jobs.items()} == {
        "message-send": 3,
        "approval-create": 1,
    }
    assert list(expected.contents.values()) == [1, 1, 1]


def test_there_is_one_message_of_each_of_the_eight_types() -> None:
    types = [content["msgtype"] for content in ONE_OF_EACH]
    assert len(set(types)) == len(types) == 8
    for content in ONE_OF_EACH:
        assert payload(message("u1", content).message) == content


def test_no_two_messages_of_a_burst_are_alike() -> None:
    burst = [*texts(300, "通知", "bulk"), message("u1", text("另一条"))]
    assert len({canonical_json(payload(job.message)) for job in burst}) == len(burst)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_first_signal_ends_it_in_order_and_a_second_one_at_once(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(tmp_path)
    killed = asyncio.Event()
    monkeypatch.setattr(system, "kill", killed.set)

    async def play() -> None:
        demo._stop_on_signals(system)
        signal.raise_signal(number)
        try:
            await asyncio.sleep(60)
        finally:
            assert not killed.is_set()
            signal.raise_signal(number)
            await killed.wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(play())
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(each)
