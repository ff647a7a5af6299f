"""ARCHITECTURE.md, in both languages, says of keys, states, scripts and files what the code says."""

import inspect
import re

import pytest

from dingrelay_producers import Settings, State
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import ENDS
from fundamentals.documents import ROOT, text

DOCUMENTS = ("ARCHITECTURE.md", "ARCHITECTURE.zh-CN.md")
DAYS, HOURS = 86_400_000, 3_600_000


@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_table_holds_every_redis_key(document: str) -> None:
    listed = set(re.findall(r"^\| `(dingrelay:[^`]+)` \|", text(document), re.MULTILINE))
    assert listed == {*_lone_keys(), *_made_keys()}


def _lone_keys() -> set[str]:
    names = {name for name in vars(keys) if name.isupper() and name != "PREFIX"}
    values = (getattr(keys, name) for name in names)
    return {value for value in values if isinstance(value, str)}


def _made_keys() -> set[str]:
    makers = [
        maker
        for maker in vars(keys).values()
        if inspect.isfunction(maker) and maker.__module__ == keys.__name__
    ]
    return {maker(**{name: f"{{{name}}}" for name in inspect.signature(maker).parameters})
            for maker in makers}  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_times_to_live_are_those_of_the_code(document: str) -> None:
    lives = dict(
        re.findall(r"^\| `dingrelay:([\w-]+)[^|]*\|.*\| (.+?) \|$", text(document), re.MULTILINE)
    )
    for key, milliseconds in {
        "recent": keys.RECENT_TTL_MS,
        "dead": int(Settings(env="test").dead_ttl * 1000),
        "buckets": 2 * keys.BUCKET_TTL_MS,
        "bucket": keys.BUCKET_TTL_MS,
        "progress": keys.PROGRESS_TTL_MS,
        "tombstone": keys.TOMBSTONE_TTL_MS,
        "presence": keys.PRESENCE_TTL_MS,
        "woken": keys.JOB_MARGIN_MS,
        "running": keys.JOB_MARGIN_MS,
        "queues": keys.JOB_MARGIN_MS,
        "waiting": keys.WAITING_TTL_MS,
        "quota": keys.QUOTA_TTL_MS,
        "content": keys.DAY_TTL_MS,
        "received": keys.DAY_TTL_MS,
        "everyone": keys.DAY_TTL_MS,
        "adopted-job": keys.JOB_MARGIN_MS,
        "members": keys.MEMBER_COUNT_TTL_MS,
        "job": keys.JOB_MARGIN_MS,
    }.items():
        number, unit = re.search(r"(\d+) (hour|day|小时|天)", lives[key]).groups()  # type: ignore[union-attr]
        assert int(number) * (HOURS if unit in {"hour", "小时"} else DAYS) == milliseconds, key


@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_diagram_holds_every_state(document: str) -> None:
    arrows = _arrows(document)
    named = {state for arrow in arrows for state in arrow} - {"[*]"}
    assert named == set(State)
    led_to = {after for before, after in arrows if before == "running"}
    assert led_to >= ENDS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_script_that_it_names_exists(document: str) -> None:
    content = text(document)
    rooms = ("tasks", "producers", "workers", "ops", "tests")
    names = {path.name for room in rooms for path in (ROOT / room).rglob("*")}
    for path in re.findall(r"`([\w/.-]+\.(?:py|lua))`", content):
        assert path.rpartition("/")[2] in names, path
        if path.startswith(("tasks/", "producers/", "workers/", "tests/")):
            assert (ROOT / path).is_file(), path
    for script in re.findall(r"(\w+)\.lua", content):
        assert f"{script}.lua" in names, script


def _arrows(document: str) -> list[tuple[str, str]]:
    diagram = text(document).split("stateDiagram-v2")[1].split("```")[0]
    return re.findall(r"^\s*(\S+) --> (\w+|\[\*\])", diagram, re.MULTILINE)


def test_both_languages_hold_the_same_rows_and_arrows() -> None:
    english, chinese = DOCUMENTS
    assert _rooms(english)
    assert _rooms(english) == _rooms(chinese)
    assert _arrows(english) == _arrows(chinese)
    walks = [re.findall(r"^ +(\w-{1,2}>>\w):", text(page), re.MULTILINE) for page in DOCUMENTS]
    assert walks[0]
    assert walks[0] == walks[1]


def _rooms(document: str) -> list[list[str]]:
    """The code in the first column of every table: folders, rooms, keys, in order."""
    rows = re.findall(r"^\|([^|]+)\|", text(document), re.MULTILINE)
    return [re.findall(r"`([^`]+)`", row) for row in rows]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_room_is_in_its_tables(document: str) -> None:
    listed = {name for row in _rooms(document) for name in row}
    package = ROOT / "workers/dingrelay_workers"
    rooms = {path.name + "/" for path in package.iterdir() if path.is_dir()}
    assert rooms - {"doctor/", "embedded/", "flower/", "lua/", "__pycache__/"} <= listed
