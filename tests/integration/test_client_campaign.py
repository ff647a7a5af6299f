"""`Client.campaign` and `AsyncClient.campaign` on a real database and Valkey."""

import sys
from pathlib import Path

import pytest

from dingrelay_producers import (
    AsyncClient,
    CampaignConflict,
    CampaignNotFound,
    CampaignState,
    Client,
    NotInstalled,
    Settings,
    WaitTimeout,
)
from dingrelay_producers.errors import TemplateConflict, TemplateNotFound
from dingrelay_tasks.contract import ContractError
from support import campaigns
from support.databases import in_database, prepare

TEXT = {"msgtype": "text", "text": {"content": "hello {name}"}}
PLAIN = {"msgtype": "text", "text": {"content": "hello"}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    reviewed = settings.campaigns.model_copy(update={"reviewers": ("u8",)})
    return settings.model_copy(update={"campaigns": reviewed})


def test_each_verb_moves_the_campaign(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "guests.csv"
    file.write_text("userid,name\n" + "".join(f"u{at},n{at % 2}\n" for at in range(150)))
    plan = client.campaign(name="n", message=TEXT, recipients=file, without=["u0"], rate=50)
    before = plan.preview()
    assert (before.recipients, before.calls, before.plain_calls) == (149, 2, 2)
    assert (round(before.minutes, 2), before.quota_used, before.fits) == (2.98, 0, True)
    campaign = plan.create()
    after = campaign.preview()
    assert (after.recipients, after.calls, after.limit) == (149, 2, before.limit)
    states = []
    for move in (lambda: None, campaign.start, campaign.pause, campaign.resume):
        move()
        states.append(client.campaign_ref(campaign.id).status().state)
    assert states == ["draft", "running", "paused", "running"]
    with pytest.raises(WaitTimeout, match="is running after 0 s"):
        campaign.wait(timeout=0)
    campaign.cancel()
    ended = campaign.wait()
    assert (ended.state, ended.planned, ended.calls) == (CampaignState.CANCELLED, 2, 0)
    with pytest.raises(CampaignConflict, match="is cancelled"):
        campaign.resume()
    with pytest.raises(CampaignNotFound):
        client.campaign_ref("none").start()
    campaign.delete()
    for gone in (campaign.status, campaign.delete):
        with pytest.raises(CampaignNotFound):
            gone()


def test_it_is_tested_reported_confirmed_and_recalled(client: Client) -> None:
    people = [{"userid": "u1", "name": "A"}]
    campaign = client.campaign(name="n", message=TEXT, recipients=people).create()
    campaign.test(["u8"], {"name": "T"})
    (job,) = client.recent()
    assert (job.kind, job.lane) == ("message-send", "urgent")
    with pytest.raises(ContractError, match="no field"):
        campaign.test(["u8"], {"title": "T"})
    report = campaign.report()
    assert "<" not in repr(report), "no enum shows its Python side"
    assert (report["recipients"], report["outcomes"]["pending"]) == (1, 1)
    assert (campaign.confirm(), campaign.recall()) == (0, 0), "nothing was sent"
    campaign.start()
    with pytest.raises(CampaignConflict, match="is running"):
        campaign.recall()


def test_rows_of_any_iterable_are_checked(client: Client) -> None:
    rows = ({"userid": f"u {at}" if at == 3 else f"u{at}"} for at in range(5))
    with pytest.raises(ContractError, match="line 4: userid"):
        client.campaign(name="n", message=PLAIN, recipients=rows).create()
    with pytest.raises(ContractError, match="weight"):
        client.campaign(name="n", message=PLAIN, users=["u1"], weight=0).create()
    some = {"recipients": ["u1", "", "u1"], "malformed": "skip"}
    status = client.campaign(name="n", message=PLAIN, **some).create().status()
    assert (status.recipients, status.duplicates, status.malformed) == (1, 1, 1)


async def test_asyncio_has_the_same(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        plan = client.campaign(name="n", message=PLAIN, users=["u1", "u2"])
        assert (await plan.preview()).recipients == 2
        campaign = await plan.create()
        await campaign.start()
        await campaign.pause()
        paused = await client.campaign_ref(campaign.id).status()
        assert (paused.state, paused.reason) == ("paused", "asked for")
        with pytest.raises(WaitTimeout, match="is paused"):
            await campaign.wait(timeout=0)
        await campaign.resume()
        await campaign.cancel()
        assert (await campaign.wait()).state.ended
        assert (await campaign.preview()).calls == 1
        with pytest.raises(CampaignConflict, match="is ready: cancel it first"):
            await (await plan.create()).delete()
        # As in a notebook: the synchronous client where a loop runs already.
        assert client.client.campaign_ref(campaign.id).status().id == campaign.id


async def test_templates_are_kept_read_and_deleted(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        kept = await client.keep_template("party", TEXT, app="hr", sender="crm")
        assert (kept.name, kept.app, kept.sender, kept.message) == ("party", "hr", "crm", TEXT)
        with pytest.raises(TemplateConflict) as refused:
            await client.keep_template("party", PLAIN, app="hr", sender="crm")
        known = {"app": "hr", "sender": "crm", "replaces": refused.value.revision}
        changed = await client.keep_template("party", PLAIN, **known)
        assert await client.templates() == [changed] == [await client.template(kept.id)]
        await client.delete_template(kept.id)
        for gone in (client.template, client.delete_template):
            with pytest.raises(TemplateNotFound):
                await gone(kept.id)


def test_wait_returns_how_it_ended(client: Client, sqlite_url: str) -> None:
    prepare(sqlite_url)
    ended = {"accepted": 3, "failed": 1, "settled": 2, "calls": 2}

    campaign = in_database(
        sqlite_url, lambda database: campaigns.put(database, state=CampaignState.DONE, **ended)
    )
    status = client.campaign_ref(campaign).wait(timeout=0)
    assert (status.accepted, status.failed, status.ended, status.calls) == (3, 1, 2, 2)


def test_a_missing_package_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dingrelay_workers.campaigns.service", None)
    with pytest.raises(NotInstalled, match=r"needs more packages: pip install .*\[worker\]'"):
        Client(settings).campaign_ref("x")
