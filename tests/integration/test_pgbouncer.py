"""PostgreSQL behind pgbouncer, which gives each transaction whatever server is free."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dingrelay_workers.database.database import Database, async_url
from pgbouncer import pgbouncer


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with pgbouncer(postgres_url, tmp_path) as url:
        yield url


@pytest.mark.parametrize("parameter", ["", "?prepared_statements=off"])
async def test_nothing_is_prepared_on_a_server_that_another_may_have_next(
    pooled_url: str, parameter: str
) -> None:
    database = Database(pooled_url + parameter)

    async def ask(number: int) -> None:
        # The same statement is prepared from its sixth time on; each transaction has any server.
        for turn in range(20):
            async with database.write(f"app{number}") as connection:
                answer = await connection.scalar(text("select :a + :b"), {"a": number, "b": turn})
                assert answer == number + turn

    await asyncio.gather(*(ask(number) for number in range(6)))
    await database.dispose()


async def test_a_server_of_our_own_prepares(postgres_url: str) -> None:
    database = Database(postgres_url)
    async with database.read() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        assert raw.driver_connection.prepare_threshold == 5
    await database.dispose()


def test_a_wrong_word_is_refused() -> None:
    with pytest.raises(ValueError, match="prepared_statements must be auto or off"):
        async_url("postgresql://h/d?prepared_statements=maybe")
