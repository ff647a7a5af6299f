"""ARCHITECTURE.md says of keys, states, scripts and files what the code says."""

import inspect
import re

from dingrelay_producers import Settings, State
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import ENDS
from fundamentals.documents import ROOT, text

DOCUMENT = "ARCHITECTURE.md"
DAYS, HOURS = 86_400_000, 3_600_000


def test_its_table_holds_every_redis_key() -> None:
    told = set(re.findall(r"^\| `(dingrelay:[^`]+)` \|", text(DOCUMENT), re.MULTILINE))
    assert told == {*_lone_keys(), *_made_keys()}


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


def test_its_times_to_live_are_those_of_the_code() -> None:
    lives = dict(
        re.findall(r"^\| `dingrelay:([\w-]+)[^|]*\|.*\| (.+?) \|$", text(DOCUMENT), re.MULTILINE)
    )
    for key, milliseconds in {
        "recent": keys.RECENT_TTL_MS,
        "dead": int(Settings.model_fields["dead_ttl"].default * 1000),
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
        "job-approval": keys.JOB_MARGIN_MS,
        "members": keys.MEMBER_COUNT_TTL_MS,
        "job": keys.JOB_MARGIN_MS,
    }.items():
        number, unit = re.match(r"(\d+) (hour|day)", lives[key]).groups()  # type: ignore[union-attr]
        assert int(number) * (HOURS if unit == "hour" else DAYS) == milliseconds, key


def test_its_diagram_holds_every_state() -> None:
    diagram = text(DOCUMENT).split("stateDiagram-v2")[1].split("```")[0]
    arrows = re.findall(r"^\s*(\S+) --> (\w+|\[\*\])", diagram, re.MULTILINE)
    named = {state for arrow in arrows for state in arrow} - {"[*]"}
    assert named == set(State)
    led_to = {after for before, after in arrows if before == "running"}
    assert led_to >= ENDS


def test_every_file_and_script_that_it_names_exists() -> None:
    document = text(DOCUMENT)
    rooms = ("tasks", "producers", "workers", "ops")
    names = {path.name for room in rooms for path in (ROOT / room).rglob("*")}
    for path in re.findall(r"`([\w/.-]+\.(?:py|lua))`", document):
        assert path.rpartition("/")[2] in names, path
        if path.startswith(("tasks/", "producers/", "workers/")):
            assert (ROOT / path).is_file(), path
    for script in re.findall(r"(\w+)\.lua", document):
        assert f"{script}.lua" in names, script
