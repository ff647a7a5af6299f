"""Who a draft would not reach is counted before it starts, on each database; nothing is written."""

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from campaigns import put
from databases import rows
from dingrelay_producers.language import CHINESE, translated
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_tasks import beijing
from dingrelay_tasks.context import MessageCall
from dingrelay_tasks.organisation import Member
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.console.findings import findings_of
from dingrelay_workers.database.database import Database
from dingrelay_workers.limiter.daily_limits import DAILY_MESSAGES, DailyLimits, place
from dingrelay_workers.store.records import Records, Usage
from jobs import claimed, queued
from organisations import organise
from rows import change

TEXT = {"msgtype": "text", "text": {"content": "{姓名}，明天放假"}}
PLAIN = {"msgtype": "text", "text": {"content": "明天放假"}}


@pytest.fixture
def drafts(each_settings: Settings, database: Database) -> Drafts:
    return Drafts(each_settings, database)


@pytest.fixture
async def organisation(database: Database) -> None:
    """u1 to u3 in 2, u4 in 3, below 1; u5 has left."""
    people = {1: (), 2: (1, 2, 3, 5), 3: (4,)}
    members = {
        number: [Member(f"u{each}", {"name": f"员工{each}"}) for each in users]
        for number, users in people.items()
    }
    directory = await organise(database, members, {1: (2, 3)})
    await directory.close_run("walk", confirm_removals=False)
    await directory.drop_user("gone", "u5", calls=1)


async def see(redis: Redis, **seen: Any) -> None:
    """The app is visible to these, as a worker has read it."""
    found = {"departments": [], "users": [], "roles": [], "admins_only": False, **seen}
    await redis.set(keys.visible_range("default"), json.dumps({"range": found, "read": 1}), ex=60)


async def send(redis: Redis, user: str, message: dict[str, Any]) -> None:
    """The user gets a message now."""
    records = Records(redis, Settings.load(env="test"))
    claim = await claimed(records, await queued(redis))
    call = MessageCall("call", [user])
    await DailyLimits(redis).reserve("default", claim.ownership, call, message)
    assert await records.settle(claim, State.DONE, usage=Usage(answered=True, steps={"call": {}}))


async def fill_day(redis: Redis, user: str) -> None:
    shard, digest = place(user)
    received = keys.received("default", beijing.day(beijing.now()))
    await redis.hset(f"{received}:{shard}", str(digest), str(DAILY_MESSAGES))
    await redis.expire(f"{received}:{shard}", 60)


async def draft(drafts: Drafts, pasted: str, **fields: Any) -> str:
    content = {"name": "holiday", "message": PLAIN, "pasted": pasted, **fields}
    return (await drafts.create(content, "ann")).id


@pytest.mark.usefixtures("organisation")
async def test_those_who_would_not_get_it_are_counted(
    drafts: Drafts, redis: Redis, database_url: str
) -> None:
    await see(redis, departments=[2], users=[])
    await send(redis, "u1", PLAIN)
    await fill_day(redis, "u2")
    found = await drafts.check(await draft(drafts, "u1 u2 u3 u4 u5 u1 没有"))
    assert (found.recipients, found.duplicates, found.malformed) == (5, 1, 1)
    assert (found.not_in_directory, found.left, found.out_of_range) == (1, 1, 1)
    assert found.absent == []
    assert (found.had_it_today, found.at_daily_limit) == (1, 1)
    assert [row.line for row in found.skipped] == [1]
    assert rows(database_url, "select count(*) as n from campaigns") == [{"n": 0}]


@pytest.mark.usefixtures("organisation")
@pytest.mark.parametrize("message", [PLAIN, TEXT])
async def test_a_pasted_word_that_the_directory_does_not_know_is_no_person(
    drafts: Drafts, message: dict[str, Any]
) -> None:
    name = await draft(drafts, "u1\n1390000，u2", message=message)
    found = await drafts.check(name)
    problem = "1390000 is no person in the directory"
    assert [(row.line, row.problem, row.pasted) for row in found.skipped] == [(2, problem, True)]
    assert found.recipients == 2
    parsed = await drafts.parse_pasted("default", (await drafts.get(name)).content.pasted)
    assert (len(parsed.people), [row.problem for row in parsed.problems]) == (2, [problem])


@pytest.mark.usefixtures("organisation")
async def test_a_file_may_name_people_that_only_dingtalk_knows(drafts: Drafts) -> None:
    name = await draft(drafts, "")
    users = ["u1", "u5", *(f"x{number:02}" for number in range(12))]
    file = "\n".join(["userid", *users, "a b"]).encode()
    await drafts.put_file(name, 1, "people.csv", file, "ann")
    found = await drafts.check(name)
    assert (found.recipients, found.not_in_directory, found.left) == (14, 13, 1)
    assert found.absent == users[2:12]
    (words,) = [each.words for each in findings_of(found) if "x00" in each.words]
    named = f"12 人不在通讯录中。 即：{', '.join(users[2:12])}, …。"
    assert translated(words, CHINESE) == named
    assert [(row.line, row.pasted) for row in found.skipped] == [(16, False)]


@pytest.mark.usefixtures("organisation")
async def test_each_gets_a_text_of_their_own(drafts: Drafts, redis: Redis) -> None:
    await send(redis, "u2", {"msgtype": "text", "text": {"content": "员工2，明天放假"}})
    await send(redis, "u1", PLAIN)
    found = await drafts.check(await draft(drafts, "u1 u2 u3 u4", message=TEXT))
    assert (found.calls, found.plain_calls, found.had_it_today) == (4, 1, 1)
    names = [(f"u{number}", f"员工{number}") for number in (1, 2, 3)]
    assert [(one.userid, one.name) for one in found.first] == names
    assert found.first[0].message["text"]["content"] == "员工1，明天放假"


@pytest.mark.usefixtures("organisation")
@pytest.mark.parametrize(
    ("seen", "outside"),
    [
        ({}, 0),
        ({"departments": [1]}, 0),
        ({"departments": [3], "users": ["u1"]}, 2),
        ({"admins_only": True}, None),
        (None, None),
    ],
)
async def test_the_range_of_the_app_is_the_last_one_read(
    drafts: Drafts, redis: Redis, seen: dict[str, Any] | None, outside: int | None
) -> None:
    if seen is not None:
        await see(redis, **seen)
    found = await drafts.check(await draft(drafts, "", departments=[1]))
    assert (found.recipients, found.out_of_range) == (4, outside)


async def test_without_a_directory_nothing_of_it_is_counted(drafts: Drafts) -> None:
    found = await drafts.check(await draft(drafts, "u1 u2"))
    assert (found.not_in_directory, found.left, found.out_of_range) == (None, None, None)
    assert (found.had_it_today, found.at_daily_limit) == (0, 0)


async def test_campaigns_that_run_already_take_their_time(
    drafts: Drafts, database: Database
) -> None:
    await put(database, app="other", people=2)
    name = await draft(drafts, "u1 u2")
    assert (await drafts.check(name)).waiting_minutes == 0
    await put(database, people=2)
    await change(database, CampaignRow, recipients=1_000_000, chunks=10_000)
    found = await drafts.check(name)
    assert found.waiting_minutes == pytest.approx(205.8, abs=0.1)
    assert (found.ends_at - found.starts_at).total_seconds() / 60 == pytest.approx(205.8, abs=0.1)
