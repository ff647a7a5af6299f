"""Follow-ups of a campaign's calls: recalls, and delivery queries."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from dingrelay_tasks import campaign_confirm, campaign_recall
from dingrelay_tasks.campaign_confirm import CampaignConfirm
from dingrelay_tasks.campaign_recall import CHUNKS_PER_JOB, CampaignRecall
from dingrelay_tasks.context import CampaignCall, DeliveryReport
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.campaigns.calls import MARK, marked
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.errors import Permanent
from dingrelay_workers.dingtalk.messages import WorkNotifications
from unit.fake_calls import FakeCalls
from unit.fake_context import START, AnswerLost, FakeContext

DONE = DeliveryReport(finished=True, read=["u1"])
UNDER_WAY = DeliveryReport(finished=False)


class FakeCampaigns:
    """SQL: chunk n has the call 100 + n."""

    def __init__(self) -> None:
        self.recalled: list[int] = []
        self.under_way_now: set[int] = set()
        self.reports: dict[int, DeliveryReport] = {}
        self.ambiguous: set[int] = set()
        self.kept: list[str] = []

    async def recallable(self, campaign: str, numbers: list[int]) -> list[CampaignCall]:
        gone = {*self.recalled, *self.under_way_now}
        return [
            call_of(number, ambiguous=number in self.ambiguous)
            for number in numbers
            if number not in gone
        ]

    async def under_way(self, campaign: str, numbers: list[int]) -> set[int]:
        return self.under_way_now & set(numbers)

    async def note_recall(self, campaign: str, number: int, kept: list[str]) -> None:
        self.recalled.append(number)
        self.kept += kept

    async def confirmable(
        self, campaign: str, numbers: list[int], *, since: datetime
    ) -> list[CampaignCall]:
        return [call_of(number) for number in numbers if number not in self.reports]

    async def note_delivery(
        self, campaign: str, call: CampaignCall, delivery: DeliveryReport
    ) -> None:
        self.reports[call.number] = delivery


def call_of(number: int, *, ambiguous: bool = False) -> CampaignCall:
    return CampaignCall(number, 100 + number, START, ambiguous=ambiguous)


@pytest.fixture
def ctx() -> FakeContext:
    ctx = FakeContext()
    ctx.campaigns = FakeCampaigns()
    return ctx


def recall(*numbers: int) -> CampaignRecall:
    return CampaignRecall(campaign="c", numbers=list(numbers))


def confirm(*numbers: int) -> CampaignConfirm:
    return CampaignConfirm(campaign="c", numbers=list(numbers), since=START)


async def test_each_call_is_recalled_and_what_is_refused_is_named(ctx: FakeContext) -> None:
    ctx.messages.unrecallable.add(101)
    result = await campaign_recall.run(recall(0, 1, 2), ctx)
    assert result == {"recalled": [0, 2], "refused": [1], "kept": []}
    assert ctx.messages.recalled == [100, 102]
    assert ctx.campaigns.recalled == [0, 2]


async def test_a_recall_whose_answer_was_lost_is_repeated_alone(ctx: FakeContext) -> None:
    ctx.messages.lose = 2
    with pytest.raises(AnswerLost):
        await campaign_recall.run(recall(0, 1), ctx)
    assert ctx.campaigns.recalled == [0]
    assert await campaign_recall.run(recall(0, 1), ctx) == {
        "recalled": [1],
        "refused": [],
        "kept": [],
    }
    assert ctx.messages.recalled == [100, 101, 101]


async def test_people_that_a_lost_call_reached_are_named(ctx: FakeContext) -> None:
    ctx.campaigns.ambiguous = {0}
    repeat = DeliveryReport(True, unread=["u1"], forbidden=[{"userid": "u2", "code": "143106"}])
    ctx.messages.deliveries = {100: [UNDER_WAY, repeat]}
    with pytest.raises(Wait):
        await campaign_recall.run(recall(0, 1), ctx)
    assert ctx.campaigns.recalled == [1]
    assert (await campaign_recall.run(recall(0, 1), ctx))["kept"] == ["u2"]
    assert (ctx.campaigns.recalled, ctx.campaigns.kept) == ([1, 0], ["u2"])


async def test_a_recall_waits_for_what_is_under_way(ctx: FakeContext) -> None:
    ctx.campaigns.under_way_now = {1}
    with pytest.raises(Wait):
        await campaign_recall.run(recall(0, 1), ctx)
    assert ctx.campaigns.recalled == [0]
    ctx.campaigns.under_way_now = set()
    await campaign_recall.run(recall(0, 1), ctx)
    assert ctx.messages.recalled == [100, 101]


async def test_reports_are_kept_and_the_rest_read_again(ctx: FakeContext) -> None:
    ctx.messages.deliveries = {100: [DONE], 101: [UNDER_WAY, DONE]}
    with pytest.raises(Wait):
        await campaign_confirm.run(confirm(0, 1), ctx)
    assert ctx.campaigns.reports == {0: DONE}
    assert await campaign_confirm.run(confirm(0, 1), ctx) == {"confirmed": [1], "unfinished": []}


async def test_a_delivery_that_does_not_end_is_not_waited_for(ctx: FakeContext) -> None:
    ctx.messages.deliveries = {100: [UNDER_WAY]}
    ctx.clock += timedelta(minutes=10)
    assert await campaign_confirm.run(confirm(0), ctx) == {"confirmed": [], "unfinished": [0]}


@pytest.mark.parametrize("numbers", [[], [-1], list(range(CHUNKS_PER_JOB + 1))])
def test_a_job_is_about_some_chunks(numbers: list[int]) -> None:
    for make in (recall, confirm):
        with pytest.raises(ContractError):
            make(*numbers)


def test_summaries_hold_the_campaign() -> None:
    assert recall(0, 1).summary() == "campaign-recall app=default lane=normal c 2 calls"
    assert confirm(0).summary() == "campaign-confirm app=default lane=bulk c 1 calls"


async def test_a_recall_is_refused_or_fails_as_dingtalk_says() -> None:
    answer: dict[str, Any] = {"errcode": 0}
    calls = FakeCalls(lambda _: answer)
    assert await WorkNotifications(calls).withdraw_message(7) is True
    assert calls.requests[0].api is apis.MESSAGE_RECALL
    assert calls.requests[0].body == {"agent_id": 4242, "msg_task_id": 7}
    refused = FakeCalls(lambda _: Permanent("400002", "no such task"))
    assert await WorkNotifications(refused).withdraw_message(7) is False
    wrong = FakeCalls(lambda _: Permanent("40056", "no such agent"))
    with pytest.raises(Permanent):
        await WorkNotifications(wrong).withdraw_message(7)


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ({"msgtype": "text", "text": {"content": "x"}}, 1),
        ({"msgtype": "markdown", "markdown": {"title": "x", "text": "x"}}, 2),
        ({"msgtype": "link", "link": {"title": "x", "text": "x", "messageUrl": "h://x"}}, 2),
        ({"msgtype": "action_card", "action_card": {"markdown": "x", "single_title": "go"}}, 1),
        ({"msgtype": "oa", "oa": {"head": {"text": "x"}, "body": {"title": "x", "form": []}}}, 2),
        ({"msgtype": "file", "file": {"media_id": "@x"}}, 0),
    ],
)
def test_a_test_is_marked_in_its_title_and_text(message: dict[str, Any], texts: int) -> None:
    found = marked(message)
    assert json.dumps(found, ensure_ascii=False).count(MARK) == texts
    plain = json.dumps(found, ensure_ascii=False).replace(MARK, "").replace("\\n", "")
    assert json.loads(plain) == message


def test_the_mark_breaks_no_heading() -> None:
    text = "### 年会\n\n- a"
    card = marked({"action_card": {"markdown": text, "title": "x"}})["action_card"]
    assert card == {"markdown": f"{MARK}\n\n{text}", "title": f"{MARK}x"}
    assert marked({"markdown": {"text": text}})["markdown"]["text"] == f"{MARK}\n\n{text}"
    assert marked({"text": {"content": text}})["text"]["content"] == f"{MARK}\n{text}"
