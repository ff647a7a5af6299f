"""How cells are asked while one is away: what is waited for, what is told, and how soon."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers import CellUnavailable, ServiceUnavailable, Settings
from dingrelay_producers.cells import breaker
from dingrelay_producers.cells.answers import Answers, ask, ask_in_threads
from dingrelay_producers.cells.breaker import Breaker
from dingrelay_producers.cells.cells import Cells
from dingrelay_producers.cells.found import MOST, Found

CELLS: dict[str, Any] = {
    f"c{number}": {"redis_url": f"redis://r{number}", "apps": [f"a{number}", f"b{number}"]}
    for number in range(3)
}


@pytest.fixture
def settings() -> Settings:
    return Settings.load(env="test", cells=CELLS)


class Server:
    """One that may be away, asked through a breaker."""

    def __init__(self, guarded: Breaker) -> None:
        self._breaker = guarded
        self.away = False
        self.tries = 0

    def ask(self) -> bool:
        """Whether it answers."""
        try:
            self._breaker.check()
        except RedisConnectionError:
            return False
        self.tries += 1
        if self.away:
            self._breaker.failed()
        else:
            self._breaker.answered()
        return not self.away


def test_connections_of_a_cell_are_made_once_and_found_by_app(settings: Settings) -> None:
    made: list[str] = []

    def make(own: Settings) -> str:
        made.append(own.cell)
        return own.redis

    cells = Cells(settings, make)
    assert [cells.of("a1"), cells.of("b1"), cells.of("a0")] == [
        "redis://r1",
        "redis://r1",
        "redis://r0",
    ]
    assert made == ["c1", "c0"]
    assert list(cells.among(["a2", "nobody's"])) == ["c2"]
    assert list(cells.among()) == ["c0", "c1", "c2"]
    alone = Cells(Settings.load(env="test", redis_url="redis://here"), lambda own: own.redis)
    assert alone.among(["any"]) == {"": "redis://here"}


def test_a_server_that_is_away_is_tried_by_one_caller_a_pause() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    server = Server(guarded)
    assert server.ask()
    server.away = True
    assert not any(server.ask() for _ in range(5))
    assert not guarded.is_open  # what fails at the same moment is one failure
    now[0] += breaker.APART
    assert not any(server.ask() for _ in range(5))
    assert (server.tries, guarded.is_open) == (7, True)
    for pause in (1.0, 2.0, 4.0, 4.0):
        tries = server.tries
        now[0] += pause - 0.01
        assert not server.ask()
        assert server.tries == tries
        now[0] += 0.01
        assert not any(server.ask() for _ in range(5))
        assert server.tries == tries + 1
    server.away = False
    now[0] += breaker.LONGEST_PAUSE
    assert all(server.ask() for _ in range(5))
    assert not guarded.is_open


def test_failures_with_answers_between_them_are_no_outage() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    server = Server(guarded)
    for away in (True, False) * 5:
        now[0] += 1
        server.away = away
        assert server.ask() is not away
    assert not guarded.is_open


def test_failures_that_are_far_apart_are_no_outage() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    for _ in range(5):
        guarded.failed()
        now[0] += breaker.TOGETHER + 1
    assert not guarded.is_open


def test_a_try_without_a_report_does_not_keep_others_out_for_ever() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    guarded.silent()
    assert guarded.is_open
    now[0] += breaker.PAUSE
    guarded.check()
    with pytest.raises(RedisConnectionError):
        guarded.check()
    guarded.left()
    now[0] += breaker.PAUSE
    guarded.check()
    now[0] += breaker.TRIAL
    guarded.check()


async def answers_of(
    how: str,
    question: Callable[[str], str],
    cells: dict[str, str],
    **options: Any,
) -> Answers[str]:
    if how == "threads":
        return await asyncio.to_thread(ask_in_threads, cells, question, **options)

    async def ask_cell(cell: str) -> str:
        return await asyncio.to_thread(question, cell)

    return await ask(cells, ask_cell, **options)


@pytest.mark.parametrize("how", ["threads", "loop"])
async def test_those_that_are_there_answer_and_the_others_are_named(how: str) -> None:
    over = threading.Event()

    def question(cell: str) -> str:
        if cell == "gone":
            raise ServiceUnavailable("Redis cannot be reached")
        if cell == "silent":
            over.wait(20)
        return cell.upper()

    cells = {name: name for name in ("a", "gone", "b", "silent")}
    try:
        answers = await answers_of(how, question, cells, within=0.2)
    finally:
        over.set()
    assert answers.found == {"a": "A", "b": "B"}
    assert answers.away == {
        "gone": "Redis cannot be reached",
        "silent": "it does not answer in time",
    }
    errors: list[CellUnavailable] = []
    assert list(answers.available(errors.append)) == ["A", "B"]
    assert [error.cells for error in errors] == [answers.away]
    with pytest.raises(
        CellUnavailable, match="cell gone is away: Redis cannot be reached; cell silent"
    ):
        answers.available(None)


@pytest.mark.parametrize("how", ["threads", "loop"])
async def test_further_answers_are_not_waited_for_after_enough(how: str) -> None:
    over = threading.Event()

    def question(cell: str) -> str:
        if cell == "silent":
            over.wait(20)
        return cell

    cells = {name: name for name in ("silent", "holder", "other")}

    def is_the_holder(name: str, _: str) -> bool:
        return name == "holder"

    try:
        answers = await answers_of(how, question, cells, within=15, enough=is_the_holder)
        assert not over.is_set()
    finally:
        over.set()
    assert "holder" in answers.found
    assert "silent" not in {*answers.found, *answers.away}


@pytest.mark.parametrize("how", ["threads", "loop"])
async def test_a_missing_part_is_not_mentioned_where_there_are_no_parts(how: str) -> None:
    def question(cell: str) -> str:
        raise ServiceUnavailable("away")

    answers = await answers_of(how, question, {"a": "a", "b": "b"})
    with pytest.raises(CellUnavailable):
        answers.available(lambda _: None)


@pytest.mark.parametrize("how", ["threads", "loop"])
async def test_other_errors_than_outages_are_raised_once(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def question(cell: str) -> str:
        raise ValueError(cell)

    with pytest.raises(ValueError, match=r"a|b|c"):
        await answers_of(how, question, {name: name for name in "abc"})
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.records == []


@pytest.mark.parametrize("how", ["threads", "loop"])
async def test_without_cells_an_error_is_the_only_ones(how: str) -> None:
    error = ServiceUnavailable("DINGRELAY_REDIS_URL: Redis cannot be reached")

    def question(_: str) -> str:
        raise error

    with pytest.raises(ServiceUnavailable) as caught:
        await answers_of(how, question, {"": "the only one"})
    assert caught.value is error


def test_where_jobs_were_found_is_remembered_within_bounds() -> None:
    found = Found()
    for number in range(MOST + 1):
        found.put(str(number), "one")
    assert (found.get("0"), found.get(str(MOST))) == (None, "one")
