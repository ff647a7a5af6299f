"""Which Redis and Valkey `doctor` takes."""

from pathlib import Path

import pytest

from dingrelay_workers.doctor import redis_server

GUIDES = [
    Path(__file__).parents[2] / "docs/guide" / page
    for page in ("operating.md", "zh-CN/operating.md")
]


@pytest.mark.parametrize(
    ("info", "verdict", "found"),
    [
        ({"redis_version": "6.2.14"}, "failed", "Redis 6.2.14"),
        ({"redis_version": "7.2.4"}, "ok", "Redis 7.2.4"),
        ({"redis_version": "8.0.2"}, "ok", "Redis 8.0.2"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.1"}, "ok", "Valkey 8.1.1"),
    ],
)
def test_one_that_lacks_a_command_is_refused(
    info: dict[str, str], verdict: str, found: str
) -> None:
    result = redis_server.check_version(info)
    assert (result.verdict, result.found) == (verdict, found)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.parent.name)
def test_the_guide_names_the_oldest(page: Path) -> None:
    oldest = ".".join(map(str, redis_server.OLDEST))
    assert f"| Redis {oldest} " in page.read_text("utf-8")
