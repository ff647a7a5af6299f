"""What became of a campaign's people, on each database."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

import campaigns
from campaigns import NOW
from dingrelay_producers.errors import CampaignNotFound
from dingrelay_producers.language import CHINESE, translated
from dingrelay_tasks.context import DeliveryReport
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import chunks
from dingrelay_workers.campaigns import report as reports
from dingrelay_workers.campaigns.calls import CampaignCalls
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.models import OutcomeKind
from dingrelay_workers.campaigns.queue import unknown
from dingrelay_workers.campaigns.removal import forget_unread
from dingrelay_workers.campaigns.report import SAME_CONTENT, Report, campaigns_of
from dingrelay_workers.database.database import Database

BROKEN = {"class": "permanent", "code": "40035", "message": "no", "hint": ""}


async def ended(database: Database, **fields: Any) -> str:
    """Seven chunks of two, each ended in another way, and one that has not ended."""
    campaign = await campaigns.put(database, people=14, **fields)
    endings = (
        ChunkEnding(
            Release(0, 1),
            task_id=7,
            called_at=NOW,
            accepted=1,
            left_out={OutcomeKind.DUPLICATE: ["u2"]},
        ),
        ChunkEnding(Release(1, 1), error=BROKEN),
        ChunkEnding(Release(2, 1), task_id=9, called_at=NOW, accepted=2, ambiguous=True),
        ChunkEnding(Release(3, 1), error=unknown("its job was lost")),
        ChunkEnding(Release(4, 1), left_out={OutcomeKind.DAILY_CAP: ["u9", "u10"]}),
        ChunkEnding(Release(5, 1), error=chunks.CANCELLED),
    )
    await campaigns.end(database, campaign, *endings)
    return campaign


async def results(database: Database, campaign: str) -> list[tuple[Any, ...]]:
    """Without the fields of the directory."""
    return [result[:4] async for page in Report(database).results(campaign) for result in page]


async def test_everybody_is_counted_once(database: Database) -> None:
    campaign = await ended(database, started_at=NOW, ended_at=NOW + timedelta(seconds=3))
    await ended(database)
    summary = await Report(database).summary(campaign)
    assert summary.outcomes == {
        "accepted": 3,
        "duplicate": 1,
        "daily_cap": 2,
        "unknown_user": 0,
        "out_of_scope": 0,
        "invalid": 0,
        "forbidden": 0,
        "failed": 2,
        "unverified": 0,
        "kept": 0,
        "unknown": 2,
        "cancelled": 2,
        "pending": 2,
    }
    assert (summary.recipients, summary.calls, summary.seconds) == (14, 2, 3)
    assert (summary.ambiguous.calls, summary.ambiguous.people) == (1, 2)
    assert (summary.recalled.calls, summary.delivery.calls) == (0, 0)
    assert {(each.outcome, each.reason, each.people) for each in summary.reasons} == {
        ("daily_cap", "had had the day's messages", 2),
        ("duplicate", "had this content already that day", 1),
        ("failed", "40035 no", 2),
        ("unknown", "its job was lost", 2),
        ("cancelled", "the campaign was cancelled before this call", 2),
    }


async def test_everybody_is_named_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dingrelay_workers.campaigns.report.PAGE", 3)
    campaign = await ended(database)
    found = await results(database, campaign)
    assert [userid for userid, *_ in found] == [f"u{number}" for number in range(1, 15)]
    assert Counter(outcome for _, outcome, *_ in found) == {
        outcome: people
        for outcome, people in (await Report(database).summary(campaign)).outcomes.items()
        if people
    }
    assert found[:3] == [
        ("u1", "accepted", 7, ""),
        ("u2", "duplicate", None, "had this content already that day"),
        ("u3", "failed", None, "40035 no"),
    ]
    assert found[4] == ("u5", "accepted", 9, SAME_CONTENT)
    assert found[13] == ("u14", "pending", None, "")


async def test_a_report_is_consistent(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await campaigns.put(database, people=2)
    await campaigns.release(database, campaign, 1)
    read = reports._sums

    async def settled_meanwhile(connection: AsyncConnection, name: str) -> dict[str, Any]:
        sums = await read(connection, name)
        await campaigns.settle(database, campaign, ChunkEnding(Release(0, 1), error=BROKEN))
        return sums

    monkeypatch.setattr(reports, "_sums", settled_meanwhile)
    outcomes = (await Report(database).summary(campaign)).outcomes
    assert {name: people for name, people in outcomes.items() if people} == {"pending": 2}
    monkeypatch.undo()
    assert (await Report(database).summary(campaign)).outcomes["failed"] == 2


@pytest.mark.parametrize("stranger", ["U1", "x" * 65])
async def test_only_people_of_the_call_count(database: Database, stranger: str) -> None:
    campaign = await campaigns.put(database, people=2)
    ending = ChunkEnding(Release(0, 1), task_id=7, called_at=NOW, accepted=2)
    await campaigns.end(database, campaign, ending)
    calls = CampaignCalls(database)
    [call] = await calls.confirmable(campaign, [0], since=NOW)
    report = DeliveryReport(True, unread=["u2"], invalid=["u1", stranger], failed=[stranger])
    await calls.note_delivery(campaign, call, report)
    assert await campaigns.outcomes(database, campaign) == {"u1": "invalid"}
    outcomes = (await Report(database).summary(campaign)).outcomes
    assert (outcomes["accepted"], outcomes["invalid"], outcomes["failed"]) == (1, 1, 0)


async def test_unreachable_people_are_named(database: Database) -> None:
    campaign = await campaigns.put(database, people=4)
    endings = (
        ChunkEnding(
            Release(0, 1),
            task_id=7,
            called_at=NOW,
            accepted=1,
            left_out={OutcomeKind.UNKNOWN_USER: ["u2"]},
        ),
        ChunkEnding(Release(1, 1), left_out={OutcomeKind.OUT_OF_SCOPE: ["u3", "u4"]}),
    )
    await campaigns.end(database, campaign, *endings)
    assert await results(database, campaign) == [
        ("u1", "accepted", 7, ""),
        ("u2", "unknown_user", None, "DingTalk knows no person with this userid"),
        ("u3", "out_of_scope", None, "outside the app's visible range"),
        ("u4", "out_of_scope", None, "outside the app's visible range"),
    ]


async def test_unverified_people_count_once_dingtalk_confirms(database: Database) -> None:
    campaign = await campaigns.put(database, people=3, size=3)
    ending = ChunkEnding(
        Release(0, 1), task_id=7, called_at=NOW, accepted=3, unverified=["u1", "u2", "u3"]
    )
    await campaigns.end(database, campaign, ending)
    outcomes = (await Report(database).summary(campaign)).outcomes
    assert (outcomes["accepted"], outcomes["unverified"]) == (0, 3)
    assert {each[1:3] for each in await results(database, campaign)} == {("unverified", 7)}
    calls = CampaignCalls(database)
    [call] = await calls.confirmable(campaign, [0], since=NOW)
    await calls.note_delivery(campaign, call, DeliveryReport(True, unread=["u1"], invalid=["u2"]))
    assert await campaigns.outcomes(database, campaign) == {"u2": "invalid", "u3": "unverified"}


async def test_people_who_have_not_read_it_are_named_for_a_time(database: Database) -> None:
    campaign = await campaigns.put(database, people=5, size=3)
    for number, accepted in ((0, 3), (1, 2)):
        ending = ChunkEnding(Release(number, 1), task_id=7, called_at=NOW, accepted=accepted)
        await campaigns.end(database, campaign, ending)
    calls = CampaignCalls(database, now=lambda: NOW)
    first, second = await calls.confirmable(campaign, [0, 1], since=NOW)
    report = DeliveryReport(True, read=["u3"], unread=["u1", "u2", "stranger"])
    await calls.note_delivery(campaign, first, report)
    await CampaignCalls(database, keeps_unread=False, now=lambda: NOW).note_delivery(
        campaign, second, DeliveryReport(True, unread=["u4", "u5"])
    )

    async def unread() -> list[str]:
        found, _ = await Report(database).people(campaign, "unread", limit=10)
        return [each.userid for each in found]

    assert await unread() == ["u1", "u2"]
    all_of_them = await results(database, campaign)
    assert [each[3] for each in all_of_them] == [
        *["not read when DingTalk was asked"] * 2,
        *[""] * 3,
    ]
    async with database.read() as connection:
        [theirs] = await campaigns_of(connection, "u1", app=None, most=1)
    assert theirs.reason == all_of_them[0][3]
    assert (await Report(database).summary(campaign)).delivery.unread == 5
    assert await forget_unread(database, NOW) == 0
    assert await forget_unread(database, NOW + timedelta(seconds=1)) == 1
    assert await unread() == []


async def test_a_recall_is_said_of_those_who_had_not_read_it(database: Database) -> None:
    campaign = await campaigns.put(database, people=1)
    ending = ChunkEnding(Release(0, 1), task_id=7, called_at=NOW, accepted=1)
    await campaigns.end(database, campaign, ending)
    calls = CampaignCalls(database, now=lambda: NOW)
    [call] = await calls.confirmable(campaign, [0], since=NOW)
    await calls.note_delivery(campaign, call, DeliveryReport(True, unread=["u1"]))
    await calls.note_recall(campaign, 0, [])
    async with database.read() as connection:
        [theirs] = await campaigns_of(connection, "u1", app=None, most=1)
    [[*_, listed]] = await results(database, campaign)
    assert theirs.reason == listed == "recalled since"


async def test_people_who_keep_a_recalled_message_are_named(database: Database) -> None:
    campaign = await ended(database)
    calls = CampaignCalls(database)
    [call] = await calls.recallable(campaign, [2])
    assert (call.ambiguous, await calls.unknown(campaign)) == (True, 2)
    await calls.note_recall(campaign, 2, ["u6", "stranger", "u6"])
    summary = await Report(database).summary(campaign)
    assert (summary.recalled.calls, summary.recalled.people) == (1, 1)
    assert (summary.outcomes["kept"], summary.outcomes["accepted"]) == (1, 2)
    reason = "has it by a call whose answer was lost, which can't be recalled"
    found = await results(database, campaign)
    assert ("u6", "kept", 9, reason) in found
    assert [each[1:] for each in found if each[3] == "recalled since"] == [
        ("accepted", 9, "recalled since")
    ]


async def test_a_draft_has_nobody_but_pending_people(database: Database) -> None:
    campaign = await campaigns.put(database)
    summary = await Report(database).summary(campaign)
    assert {name: people for name, people in summary.outcomes.items() if people} == {"pending": 4}
    assert (summary.reasons, summary.seconds) == ([], None)


async def test_no_campaign_has_no_report(database: Database) -> None:
    with pytest.raises(CampaignNotFound):
        await Report(database).summary("none")


async def test_a_second_confirmation_takes_the_place_of_the_first(database: Database) -> None:
    campaign, calls = await called(database)
    [call] = await calls.confirmable(campaign, [0], since=NOW)
    first = DeliveryReport(finished=True, unread=["u1"], failed=["u2"])
    second = DeliveryReport(finished=True, read=["u2"], unread=["u1"])
    await calls.note_delivery(campaign, call, first)
    # Asked at the same moment: it was read before the first was noted.
    await calls.note_delivery(campaign, call, second)
    summary = await Report(database).summary(campaign)
    assert (summary.outcomes["accepted"], summary.outcomes["failed"]) == (1, 1)
    assert (summary.delivery.calls, summary.delivery.delivered) == (1, 1)
    [again] = await calls.confirmable(campaign, [0], since=NOW + timedelta(days=1))
    await calls.note_delivery(campaign, again, second)
    summary = await Report(database).summary(campaign)
    assert (summary.outcomes["accepted"], summary.outcomes["failed"]) == (2, 0)
    assert (summary.delivery.calls, summary.delivery.delivered, summary.delivery.read) == (1, 2, 1)


async def test_any_answer_of_dingtalk_is_stored(database: Database) -> None:
    campaign, calls = await called(database)
    [call] = await calls.confirmable(campaign, [0], since=NOW)
    report = DeliveryReport(
        finished=True,
        forbidden=[{"userid": "u1", "code": "\0\ud800"}],
        failed=["u\0\ud8001", "u2"],
    )
    await calls.note_delivery(campaign, call, report)
    assert await campaigns.outcomes(database, campaign) == {"u1": "forbidden", "u2": "failed"}
    broken = {**BROKEN, "message": en("took down {} workers", "no\0 \udfff")}
    await campaigns.end(database, campaign, ChunkEnding(Release(1, 1), error=broken))
    reasons = [reason.reason for reason in (await Report(database).summary(campaign)).reasons]
    (reason,) = (each for each in reasons if "took down" in each)
    assert reason.endswith("took down no\ufffd ? workers")
    assert "no\ufffd ? 个 worker" in translated(reason, CHINESE)


async def called(database: Database) -> tuple[str, CampaignCalls]:
    """A campaign whose first of two chunks was called."""
    campaign = await campaigns.put(database)
    await campaigns.release(database, campaign, 1)
    calls = CampaignCalls(database, now=lambda: NOW)
    assert await calls.under_way(campaign) == {0: 2}
    ending = ChunkEnding(Release(0, 1), task_id=7, called_at=NOW, accepted=2)
    await campaigns.settle(database, campaign, ending)
    assert await calls.under_way(campaign, [0, 1]) == {}
    return campaign, calls
