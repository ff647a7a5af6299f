"""Outcomes of a campaign's people, on each database."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

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
from dingrelay_workers.campaigns.report import OF_ROWS, SAME_CONTENT, Report, campaigns_of
from dingrelay_workers.database.database import Database
from support import campaigns
from support.campaigns import NOW, failed, taken

BROKEN = {"class": "permanent", "code": "40035", "message": "no", "hint": ""}


class Calls:
    """The calls of a campaign, of which DingTalk reports."""

    def __init__(self, database: Database, campaign: str) -> None:
        self.store = CampaignCalls(database, now=lambda: NOW)
        self.campaign = campaign

    async def confirmable(self, number: int = 0, since: datetime = NOW) -> Any:
        [call] = await self.store.confirmable(self.campaign, [number], since=since)
        return call

    async def report(self, number: int = 0, since: datetime = NOW, **people: Any) -> None:
        """DingTalk's report of a call."""
        call = await self.confirmable(number, since)
        await self.store.note_delivery(self.campaign, call, DeliveryReport(True, **people))


async def ended(database: Database, **fields: Any) -> str:
    """Seven chunks of two, each ended in another way, and one that has not ended."""
    campaign = await campaigns.put(database, people=14, **fields)
    endings = (
        taken(0, accepted=1, left_out={OutcomeKind.DUPLICATE: ["u2"]}),
        failed(1, BROKEN),
        taken(2, ambiguous=True),
        failed(3, unknown("its job was lost")),
        ChunkEnding(Release(4, 1), left_out={OutcomeKind.DAILY_CAP: ["u9", "u10"]}),
        failed(5, chunks.CANCELLED),
    )
    await campaigns.end(database, campaign, *endings)
    return campaign


async def called(database: Database, *endings: ChunkEnding, **fields: Any) -> tuple[str, Calls]:
    """A campaign whose chunks were called, and these calls."""
    campaign = await campaigns.put(database, **fields)
    await campaigns.end(database, campaign, *endings or [taken()])
    return campaign, Calls(database, campaign)


async def results(database: Database, campaign: str) -> list[tuple[Any, ...]]:
    """Without the fields of the directory."""
    return [result[:4] async for page in Report(database).results(campaign) for result in page]


async def counts(database: Database, campaign: str) -> dict[str, int]:
    """Outcomes that anybody has, in the summary."""
    outcomes = (await Report(database).summary(campaign)).outcomes
    assert outcomes.keys() == {*OutcomeKind, "accepted", "pending", *OF_ROWS}
    return {outcome: people for outcome, people in outcomes.items() if people}


async def test_everybody_is_counted_once(database: Database) -> None:
    campaign = await ended(database, started_at=NOW, ended_at=NOW + timedelta(seconds=3))
    await ended(database)
    twos = dict.fromkeys(("daily_cap", "failed", "unknown", "cancelled", "pending"), 2)
    assert await counts(database, campaign) == {"accepted": 3, "duplicate": 1, **twos}
    summary = await Report(database).summary(campaign)
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
    assert Counter(outcome for _, outcome, *_ in found) == await counts(database, campaign)
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
        await campaigns.settle(database, campaign, failed(0, BROKEN))
        return sums

    monkeypatch.setattr(reports, "_sums", settled_meanwhile)
    assert await counts(database, campaign) == {"pending": 2}
    monkeypatch.undo()
    assert await counts(database, campaign) == {"failed": 2}


@pytest.mark.parametrize("stranger", ["U1", "x" * 65])
async def test_only_people_of_the_call_count(database: Database, stranger: str) -> None:
    campaign, calls = await called(database, people=2)
    await calls.report(unread=["u2"], invalid=["u1", stranger], failed=[stranger])
    assert await campaigns.outcomes(database, campaign) == {"u1": "invalid"}
    assert await counts(database, campaign) == {"accepted": 1, "invalid": 1}


async def test_unreachable_people_are_named(database: Database) -> None:
    outside = {OutcomeKind.OUT_OF_SCOPE: ["u3", "u4"]}
    first = taken(accepted=1, left_out={OutcomeKind.UNKNOWN_USER: ["u2"]})
    campaign, _ = await called(database, first, ChunkEnding(Release(1, 1), left_out=outside))
    assert await results(database, campaign) == [
        ("u1", "accepted", 7, ""),
        ("u2", "unknown_user", None, "DingTalk knows no person with this userid"),
        ("u3", "out_of_scope", None, "outside the app's visible range"),
        ("u4", "out_of_scope", None, "outside the app's visible range"),
    ]


async def test_unverified_people_count_once_dingtalk_confirms(database: Database) -> None:
    ending = taken(accepted=3, unverified=["u1", "u2", "u3"])
    campaign, calls = await called(database, ending, people=3, size=3)
    assert await counts(database, campaign) == {"unverified": 3}
    assert {each[1:3] for each in await results(database, campaign)} == {("unverified", 7)}
    await calls.report(unread=["u1"], invalid=["u2"])
    assert await campaigns.outcomes(database, campaign) == {"u2": "invalid", "u3": "unverified"}


async def test_people_who_have_not_read_it_are_named_for_a_time(database: Database) -> None:
    campaign, calls = await called(database, taken(0, 3), taken(1, 2), people=5, size=3)
    second = await calls.confirmable(1)
    await calls.report(read=["u3"], unread=["u1", "u2", "stranger"])
    await CampaignCalls(database, keeps_unread=False, now=lambda: NOW).note_delivery(
        campaign, second, DeliveryReport(True, unread=["u4", "u5"])
    )

    async def unread() -> list[str]:
        found, _ = await Report(database).people(campaign, "unread", limit=10)
        return [each.userid for each in found]

    assert await unread() == ["u1", "u2"]
    reason = "not read when DingTalk was asked"
    assert [each[3] for each in await results(database, campaign)] == [reason, reason, "", "", ""]
    assert await reason_of(database, "u1") == reason
    assert (await Report(database).summary(campaign)).delivery.unread == 5
    assert await forget_unread(database, NOW) == 0
    assert await forget_unread(database, NOW + timedelta(seconds=1)) == 1
    assert await unread() == []


async def reason_of(database: Database, user: str) -> str:
    """The reason shown for the person's only campaign."""
    async with database.read() as connection:
        [theirs] = await campaigns_of(connection, user, app=None, most=1)
    return theirs.reason


async def test_a_recall_is_said_of_those_who_had_not_read_it(database: Database) -> None:
    campaign, calls = await called(database, taken(accepted=1), people=1)
    await calls.report(unread=["u1"])
    await calls.store.note_recall(campaign, 0, [])
    [[*_, listed]] = await results(database, campaign)
    assert await reason_of(database, "u1") == listed == "recalled since"


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
    recalled = ("accepted", 9, "recalled since")
    assert [each[1:] for each in found if each[3] == "recalled since"] == [recalled]


async def test_a_draft_has_nobody_but_pending_people(database: Database) -> None:
    campaign = await campaigns.put(database, started_at=None)
    assert await counts(database, campaign) == {"pending": 4}
    summary = await Report(database).summary(campaign)
    assert (summary.reasons, summary.seconds) == ([], None)
    with pytest.raises(CampaignNotFound):
        await Report(database).summary("none")


async def test_a_second_confirmation_takes_the_place_of_the_first(database: Database) -> None:
    campaign, calls = await called(database)
    call = await calls.confirmable()
    second = DeliveryReport(finished=True, read=["u2"], unread=["u1"])
    await calls.report(unread=["u1"], failed=["u2"])
    # Asked at the same moment: it was read before the first was noted.
    await calls.store.note_delivery(campaign, call, second)
    assert await counts(database, campaign) == {"accepted": 1, "failed": 1, "pending": 2}
    delivery = (await Report(database).summary(campaign)).delivery
    assert (delivery.calls, delivery.delivered) == (1, 1)
    await calls.report(since=NOW + timedelta(days=1), read=["u2"], unread=["u1"])
    assert await counts(database, campaign) == {"accepted": 2, "pending": 2}
    delivery = (await Report(database).summary(campaign)).delivery
    assert (delivery.calls, delivery.delivered, delivery.read) == (1, 2, 1)


async def test_any_answer_of_dingtalk_is_stored(database: Database) -> None:
    campaign, calls = await called(database)
    forbidden = [{"userid": "u1", "code": "\0\ud800"}]
    await calls.report(forbidden=forbidden, failed=["u\0\ud8001", "u2"])
    assert await campaigns.outcomes(database, campaign) == {"u1": "forbidden", "u2": "failed"}
    broken = {**BROKEN, "message": en("took down {} workers", "no\0 \udfff")}
    await campaigns.end(database, campaign, failed(1, broken))
    reasons = [reason.reason for reason in (await Report(database).summary(campaign)).reasons]
    (reason,) = (each for each in reasons if "took down" in each)
    assert reason.endswith("took down no\ufffd ? workers")
    assert "no\ufffd ? 个 worker" in translated(reason, CHINESE)


async def test_a_call_is_under_way_until_its_chunk_is_settled(database: Database) -> None:
    campaign = await campaigns.put(database)
    calls = CampaignCalls(database)
    await campaigns.release(database, campaign, 1)
    assert await calls.under_way(campaign) == {0: 2}
    await campaigns.settle(database, campaign, taken())
    assert await calls.under_way(campaign, [0, 1]) == {}
