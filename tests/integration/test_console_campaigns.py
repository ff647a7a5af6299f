"""A broadcast in the console, from its first word to its end, without script."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from aiohttp import FormData
from redis.asyncio import Redis
from sqlalchemy import select, update

from dingrelay_producers import Client
from dingrelay_producers.client.filters import AuditFilter, CampaignFilter
from dingrelay_producers.client.media import LocalFile
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks import MessageSend
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.organisation import Member
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.campaigns import draft_console_routes, estimate
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.documents import DraftContent
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow
from dingrelay_workers.campaigns.pictures import Pictures, delete_before
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.console.context import SOON
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, UserRow
from dingrelay_workers.sessions.models import ConsoleFormRow
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks
from support import campaigns, rows
from support.consoles import Browser
from support.databases import in_database, prepare
from support.directories import organise

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Broadcasts to more than three people need a second person, and u20 and u21 review them."""
    rule = {"approve": "over 3", "reviewers": ("u20", "u21")}
    campaigns = settings.campaigns.model_copy(update=rule)
    return settings.model_copy(update={"campaigns": campaigns})


@pytest.fixture(scope="module")
def organised(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a database whose directory has two departments."""
    file = tmp_path_factory.mktemp("organised") / "directory.db"
    prepare(f"sqlite:///{file}")
    in_database(f"sqlite:///{file}", _organise)
    return file.read_bytes()


async def _organise(database: Database) -> None:
    teams = {team: [f"{team}{number}" for number in range(3)] for team in (2, 3)}
    members_of = {
        team: [Member(f"u{each}", {"name": HOSTILE + each}) for each in members]
        for team, members in teams.items()
    }
    directory = await organise(database, {1: [], **members_of}, {1: (2, 3)})
    await directory.close_run("walk", confirm_removals=True)
    await rows.change(database, DepartmentRow, DepartmentRow.id == 1, name=HOSTILE)
    # Who approves, and who makes links, are in the directory of another app.
    people = ({"app": "branch", "userid": user} for user in ("wang", "li", "issuer-of-li"))
    await rows.put(database, UserRow, *people)


@pytest.fixture
def organisation(organised: bytes, sqlite_url: str) -> None:
    Path(sqlite_url.removeprefix("sqlite:///")).write_bytes(organised)


@pytest.fixture
async def writer(organisation: None, browser: Browser) -> Browser:
    """A person who writes, before a console whose directory has two departments."""
    await browser.sign_in("wang", "write")
    return browser


async def begun(writer: Browser) -> str:
    """The path of a new draft."""
    await writer.submit("/campaigns/new", name="party", app="default")
    return writer.location.removesuffix("/write")


async def written(writer: Browser, **people: Any) -> str:
    """The path of a draft with a text and people."""
    draft = await begun(writer)
    text = {"name": "party", "app": "default", "msgtype": "text", "text.content": "{name}, come!"}
    assert await writer.submit(f"{draft}/write", then="choose", **text) == 303
    assert writer.location == f"{draft}/choose"
    chosen = people or {"departments": "2"}
    assert await writer.submit(f"{draft}/choose", **chosen) == 303
    return draft


async def upload(
    writer: Browser, draft: str, content: bytes, file: str, to: str = "file", **fields: str
) -> tuple[int, str]:
    """Send a file from the page of a draft that takes it."""
    page = f"{draft}/choose" if to == "file" else f"{draft}/write"
    form = FormData((await writer.forms(page))[page] | fields, quote_fields=False)
    form.add_field(to, content, filename=file)
    return await writer.send(page, form)


async def stored(settings: Settings, draft: str) -> CampaignDraft:
    return await Drafts(settings).get(draft.rpartition("/")[2])


async def typed_times(writer: Browser, draft: str) -> dict[str, str]:
    """The inputs of the step with the time, as its page fills them in."""
    page = await writer.text(f"{draft}/review")
    names = ("start_at", "rate", "quiet_from", "quiet_to", "error_share")
    inputs = re.compile(f'name="({"|".join(names)})" value="([^"]*)"')
    return dict(inputs.findall(page))


async def made(writer: Browser, draft: str, then: str = "send") -> str:
    """The path of the broadcast once its draft is ready."""
    assert (
        await writer.submit(f"{draft}/review", then=then, **await typed_times(writer, draft)) == 303
    )
    return writer.location.partition("?")[0]


async def test_the_page_of_a_test_shows_no_other_job(
    writer: Browser, settings: Settings, redis: Redis
) -> None:
    """A writer sees broadcasts; the id of another job follows from its key, which may be an order's number."""
    draft = await written(writer, everyone="1")
    job = MessageSend.parse(
        {
            "lane": "urgent",
            "to": {"users": ["u9"]},
            "message": {"msgtype": "text", "text": {"content": "notice"}},
            "idempotency_key": "order-17",
        }
    )
    with Client(settings) as client:
        other = await asyncio.to_thread(lambda: client.send(job).id)
    error = {"class": "permanent", "code": "x", "message": "of others", "hint": ""}
    await redis.hset(keys.job(other), mapping={"state": "dead", "error": json.dumps(error)})
    page = await writer.text(f"{draft}/test?job={other}")
    assert ("of others" in page, "u9" in page) == (False, False)


async def test_a_broadcast_goes_out_through_a_second_person(
    writer: Browser, settings: Settings, redis: Redis
) -> None:
    draft = await written(writer, everyone="1")
    # Its test is a job in the urgent lane, with the mark.
    assert await writer.submit(f"{draft}/test", users=f"{HOSTILE}20，u21") == 303
    job = re.findall(r"job=([0-9a-f-]+)", writer.location)[0]
    page = await writer.text(writer.location)
    for words in ("on its way", "data-live", "【测试】"):
        assert words in page
    error = {"class": "invalid", "code": "x", "message": "none", "hint": "Look `it` up."}
    await redis.hset(keys.job(job), mapping={"state": "dead", "error": json.dumps(error)})
    page = await writer.text(writer.location)
    assert ("Look <code>it</code> up." in page, "data-live" in page) == (True, False)
    payload: Any = await redis.hget(keys.job(job), "payload")
    assert f'"【测试】\\n{HOSTILE}20, come!"' in payload.decode()
    campaign = await made(writer, draft, then="ask")
    [row] = await AuditService(settings).list(AuditFilter(action="test"), limit=9)
    assert (row.object, row.after) == (
        campaign.rpartition("/")[2],
        {"people": 2, "jobs": [job]},
    )
    page = await writer.text(campaign)
    assert ("/start" in page, "/approve" in page) == (False, False)
    async with writer.another("wang", "approve") as same_person:
        assert f"{campaign}/approve" not in await same_person.forms(campaign)
    async with writer.another("li", "approve") as reviewer:
        page = await reviewer.text(campaign)
        assert (HOSTILE in page, f"{campaign}/people" in page) == (False, True)
        assert await reviewer.submit(campaign, f"{campaign}/approve") == 303
        assert f"{campaign}/pause" not in await reviewer.forms(campaign)
    assert "6 people" in await writer.text(f"{campaign}/start")
    assert await writer.submit(f"{campaign}/start") == 303
    assert ">wang</td>" in await writer.text("/people/u20")
    status = await CampaignService(settings).status(campaign.rpartition("/")[2])
    assert (status.state, status.recipients) == ("running", 6)
    assert "a draft</span>" not in await writer.text("/campaigns")
    assert f"What {escape(HOSTILE)}20 gets" in await writer.text(campaign)
    for verb, state in (("pause", "paused"), ("resume", "running")):
        assert await writer.submit(campaign, f"{campaign}/{verb}") == 303
        assert (await CampaignService(settings).status(status.id)).state == state
    assert await writer.submit(f"{campaign}/cancel") == 303
    for people in ("1", ""):
        assert await writer.submit(campaign, f"{campaign}/copy", people=people) == 303
        copy = (await stored(settings, writer.location.removesuffix("/write"))).content
        assert copy.message["text"]["content"] == "{name}, come!"
        assert copy.everyone == bool(people)


async def test_a_copy_takes_the_people_or_the_message_alone(
    writer: Browser, settings: Settings
) -> None:
    draft = await written(writer, departments="2", without_pasted="u21")
    assert (await upload(writer, draft, b"userid,place\nu30,Hall\n", "guests.csv"))[0] == 303
    campaign = await made(writer, draft)
    before = await stored(settings, draft)
    for people in ("1", ""):
        assert await writer.submit(campaign, f"{campaign}/copy", people=people) == 303
        copy = await stored(settings, writer.location.removesuffix("/write"))
        same = (
            before
            if people
            else CampaignDraft.model_construct(content=DraftContent(), file_name="")
        )
        assert copy.file_name == same.file_name
        for name in ("departments", "pasted", "without_pasted", "without_campaigns"):
            assert getattr(copy.content, name) == getattr(same.content, name)


async def test_broadcasts_are_found_by_name_writer_state_and_time(writer: Browser) -> None:
    person = f"{HOSTILE}20"  # the name of u20
    spring = await campaigns.put(writer.database, name="Spring party", writers=["u20"])
    old = datetime.now(UTC) - timedelta(days=20)
    autumn = await campaigns.put(
        writer.database, name="Autumn", writers=["u21"], state="done", created_at=old
    )

    async def listed(**query: str) -> set[str]:
        page = await writer.text(f"/campaigns?{urlencode(query)}")
        assert HOSTILE not in page
        return {each for each in (spring, autumn) if f"/campaigns/{each}" in page}

    assert await listed() == {spring, autumn}
    for query, fit in (
        ({"q": "part"}, {spring}),
        ({"writer": person}, {spring}),
        ({"writer": "u21"}, {autumn}),
        ({"state": "done"}, {autumn}),
        ({"since": "7d"}, {spring}),
        ({"since": "30d", "state": "running"}, {spring}),
        ({"until": f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}"}, {autumn}),
        ({"q": "nothing"}, set[str]()),
    ):
        assert await listed(**query) == fit, query
    page = await writer.text("/campaigns?q=part&state=running&since=7d")
    for words in (
        'value="part"',
        'value="running" selected',
        "since=30d&amp;q=part&amp;state=running",
    ):
        assert words in page
    assert "No broadcast fits" in await writer.text("/campaigns?q=nothing")
    for query, status in (("writer=x%00", 404), ("state=none", 400), ("since=never", 400)):
        assert await writer.status(f"/campaigns?{query}") == status, query
    namesakes = [{"userid": user, "name": "王芳"} for user in ("w1", "w2")]
    await rows.put(writer.database, UserRow, *namesakes)
    status, page = await writer.get(f"/campaigns?writer={quote('王芳')}")
    assert (status, 'id="writer-wrong"' in page, "w1, w2" in page) == (400, True, True)
    # What was asked for stays on the next page.
    for number in range(51):
        await campaigns.put(writer.database, name=f"party {number}", people=2)
    assert len(await writer.pages("/campaigns?q=party")) == 2


async def test_people_of_a_cancelled_broadcast_who_are_left_did_not_get_it(writer: Browser) -> None:
    await campaigns.put(writer.database, people=3, state="cancelled")
    page = await writer.text("/campaigns")
    assert ('data-label="did not">3</td>' in page, 'max="3" value="3"' in page) == (True, True)


async def test_two_editors_see_both_versions(writer: Browser, settings: Settings) -> None:
    draft = await written(writer)
    form = (await writer.forms(f"{draft}/write"))[f"{draft}/write"]
    fields = {"name": "party", "app": "default", "msgtype": "text"}
    async with writer.another("u22", "write") as other:
        theirs = {**fields, "text.content": f"theirs {HOSTILE}"}
        assert await other.submit(f"{draft}/write", **theirs) == 303
    mine = {**form, **fields, "text.content": f"mine {HOSTILE}"}
    status, page = await writer.send(f"{draft}/write", mine)
    assert status == 409
    assert HOSTILE not in page
    for words in (f"{escape(HOSTILE)}22 has changed", "theirs", "mine"):
        assert words in page, re.findall(r"<h1>.*?</h1>|role=.alert.*?</p>", page)
    # Both are there, and mine is saved where I say so.
    (again,) = re.findall(rf'action="{draft}/write".*?</form>', page, re.DOTALL)
    hidden = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', unescape(again)))
    assert await writer.post(f"{draft}/write", hidden) == 303
    content = (await stored(settings, draft)).content
    assert content.message["text"]["content"] == f"mine {HOSTILE}"


async def test_a_double_click_makes_and_starts_one_broadcast(
    writer: Browser, settings: Settings
) -> None:
    draft = await written(writer)
    review = f"{draft}/review"
    form = (await writer.forms(review))[review] | await typed_times(writer, draft)
    made_at = [writer.post(review, form | {"then": "send"}) for _ in range(3)]
    assert set(await asyncio.gather(*made_at)) == {303}
    (found,) = await CampaignService(settings).list(CampaignFilter(), limit=9)
    start = f"/campaigns/{found.id}/start"
    form = (await writer.forms(start))[start]
    starts = [writer.post(start, form) for _ in range(3)]
    assert set(await asyncio.gather(*starts)) == {303}


async def test_a_stale_form_is_a_wish_of_its_own(writer: Browser) -> None:
    """Another tab, or “Back”, shows the page that was made before: it is no repetition once its result is undone."""
    campaign = await campaigns.put(writer.database)
    page = f"/campaigns/{campaign}"
    stale = (await writer.forms(page))[f"{page}/pause"]
    for _ in range(2):
        assert await writer.post(f"{page}/pause", stale) == 303
        assert "It is paused." in await writer.text(writer.location)
    assert await writer.submit(page, f"{page}/resume") == 303
    for _ in range(2):
        assert await writer.post(f"{page}/pause", stale) == 303
        assert (await campaigns.read(writer.database, campaign)).state == "paused"
    await writer.submit(page, f"{page}/resume")
    cancel = f"{page}/cancel"
    assert await writer.submit(cancel) == 303
    status, text = await writer.send(f"{page}/pause", stale)
    assert (status, "has changed since you looked at it" in text) == (409, True)
    acts = select(AuditRow.action).where(AuditRow.object == campaign).order_by(AuditRow.number)
    actions = [action for (action,) in await writer.rows(acts)]
    assert actions == ["pause", "resume", "pause", "resume", "cancel"]


async def test_a_change_after_the_approval_makes_it_a_draft_again(
    writer: Browser, settings: Settings
) -> None:
    draft = await written(writer, everyone="1")
    assert await made(writer, draft, then="ask") == draft
    async with writer.another("li", "approve") as reviewer:
        assert await reviewer.submit(draft, f"{draft}/approve") == 303
    assert "voids its approval" in await writer.text(f"{draft}/choose")
    form = (await writer.forms(f"{draft}/start"))[f"{draft}/start"]
    await writer.submit(f"{draft}/choose", pasted="u99", everyone="1")
    assert await writer.post(f"{draft}/start", form) == 409
    assert "a draft" in await writer.text("/campaigns")
    assert await writer.status(draft) == 303
    assert await made(writer, draft) == draft
    assert (await CampaignService(settings).review(draft.rpartition("/")[2])).holds
    await writer.sign_in("wang", "admin")
    assert f'{draft}"' in await writer.text("/settings/audit")


async def test_the_last_question_is_about_the_version_that_was_seen(
    writer: Browser, settings: Settings
) -> None:
    """Another text may be ready, and submitted, by the time that a tab is answered."""
    draft = await written(writer, everyone="1")
    text = {"name": "party", "app": "default", "msgtype": "text"}

    async def submit_text(content: str) -> None:
        assert await writer.submit(f"{draft}/write", **text, **{"text.content": content}) == 303
        await made(writer, draft, then="ask")

    await submit_text("come at five")
    async with writer.another("li", "approve") as reviewer:
        reject = (await reviewer.forms(f"{draft}/reject"))[f"{draft}/reject"] | {"reason": "no"}
        approve = (await reviewer.forms(draft))[f"{draft}/approve"]
        assert "come at five" in await reviewer.text(draft)
        await submit_text("you are dismissed")
        assert "you are dismissed" in await reviewer.text(draft)
        for verb, form in (("approve", approve), ("reject", reject)):
            status, page = await reviewer.send(f"{draft}/{verb}", form)
            assert (status, "has changed since you looked at it" in page) == (409, True)
        assert await reviewer.submit(draft, f"{draft}/approve") == 303
        start = (await writer.forms(f"{draft}/start"))[f"{draft}/start"]
        cancel = (await writer.forms(f"{draft}/cancel"))[f"{draft}/cancel"]
        await submit_text("come at six")
        assert await reviewer.submit(draft, f"{draft}/approve") == 303
    for verb, form in (("start", start), ("cancel", cancel)):
        assert await writer.post(f"{draft}/{verb}", form) == 409
    assert (await CampaignService(settings).status(draft.rpartition("/")[2])).stage == "ready"


async def test_only_earlier_broadcasts_are_offered_to_be_left_out(writer: Browser) -> None:
    sent = await campaigns.put(writer.database, state="done", started_at=datetime.now(UTC))
    draft = await written(writer)
    offered = re.findall(
        r'name="without_campaigns" value="([^"]+)"', await writer.text(f"{draft}/choose")
    )
    assert offered == [sent]


async def test_a_scheduled_broadcast_is_shown_as_that(writer: Browser) -> None:
    draft = await written(writer)
    time = {"start_at": "2099-01-01T09:00", "error_share": "10"}
    assert await writer.submit(f"{draft}/review", **time) == 303
    await made(writer, draft)
    assert "ready, not sent yet" in await writer.text("/campaigns")
    assert await writer.submit(f"{draft}/start") == 303
    page = await writer.text(writer.location)
    assert "It is scheduled; sending begins Jan 1, 2099, 09:00." in page
    assert ("It is being sent." in page, "2099-01-01 09:00:00+08:00.</p>" in page) == (False, False)
    for page in (draft, "/campaigns"):
        text = await writer.text(page)
        assert ("scheduled" in text, "is being sent</span>" in text) == (True, False)
    text = await writer.text("/campaigns")
    assert ("scheduled for Jan 1, 2099, 09:00" in text, "is scheduled for Jan 1, 2099" in text) == (
        True,
        True,
    )
    assert await writer.status(f"{draft}/write") == 409
    await writer.sign_in("ops", "operate")
    assert f'href="{draft}">“party” is scheduled for Jan 1, 2099, 09:00.' in await writer.text("/")


async def test_a_time_that_is_over_is_refused(writer: Browser, settings: Settings) -> None:
    """Over where it is chosen, or by the time that the draft is made ready."""
    draft, over = await written(writer), "2020-01-01T09:00"
    status, page = await writer.send(
        f"{draft}/review",
        (await writer.forms(f"{draft}/review"))[f"{draft}/review"] | {"start_at": over},
    )
    assert (status, "2020-01-01 09:00" in page, "is over: choose a time to come" in page) == (
        422,
        True,
        True,
    )
    assert (await stored(settings, draft)).content.start_at is None
    content = {
        **(await stored(settings, draft)).content.model_dump(mode="json"),
        "start_at": f"{over}:00Z",
    }
    await writer.write(
        update(CampaignRow)
        .where(CampaignRow.id == draft.rpartition("/")[2])
        .values(content=content)
    )
    times = await typed_times(writer, draft)
    assert await writer.submit(f"{draft}/review", then="send", **times) == 422
    plan = {"name": "n", "message": {"msgtype": "text", "text": {"content": "x"}}, "users": ["u1"]}
    with pytest.raises(ContractError, match=r"start_at: .* is over"):
        await CampaignService(settings).create({**plan, "start_at": f"{over}:00Z"})


@pytest.mark.parametrize("tested", [False, True])
async def test_a_time_is_saved_and_checked_by_the_button_that_goes_on(
    writer: Browser, settings: Settings, *, tested: bool
) -> None:
    """A time of a draft, and of a broadcast that a test has made ready."""
    draft = await written(writer)
    if tested:
        assert await writer.submit(f"{draft}/test", users="u20") == 303
    review = f"{draft}/review"
    typed = (await writer.forms(review))[review] | {"error_share": "10", "then": "ask"}
    status, page = await writer.send(review, typed | {"start_at": "2020-01-01T09:00"})
    assert (status, 'id="start_at-wrong"' in page) == (422, True)
    assert "waits for the approval" not in await writer.text(review)
    assert await writer.post(review, typed | {"start_at": "2099-01-01T09:00"}) == 303
    assert "waits for the approval" in await writer.text(review)
    start_at = (await stored(settings, draft)).content.start_at
    assert start_at == datetime(2099, 1, 1, 1, tzinfo=UTC)


async def test_the_second_person_sees_which_people_were_chosen(
    writer: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = await written(writer)
    people = {"everyone": "1", "without_departments": "3"}
    people |= {"pasted": "不存在", "without_pasted": "u20"}
    rows = b"userid\nu30\nu31\n"
    assert (await upload(writer, draft, rows, "list.csv", **people))[0] == 303
    campaign = await made(writer, draft, then="ask")
    # The page is renewed every few seconds: it shows what the one check found.
    for check in ("of_ready", "of_plan"):
        monkeypatch.delattr(estimate, check)
    async with writer.another("li", "approve") as reviewer:
        page = await reviewer.text(campaign)
    for words in (
        "Checked at today",
        "Everyone in the organisation.",
        "1 pasted name or number.",
        "Those in the file “list.csv”: 2 rows.",
        "Not those in the departments: team 3",
        "Not the 1 pasted name or number that is left out.",
        "4 people are left out",
        "line 1 of the pasted text: 不存在 is no person",
    ):
        assert words in page
    assert f"{draft}/write" not in page


async def test_a_link_approves_nothing_that_its_issuer_wrote(writer: Browser) -> None:
    draft = await written(writer, everyone="1")
    campaign = await made(writer, draft, then="ask")
    with campaigns.acting("wang"):
        request = LoginLinkRequest(user="li", role="approve")
        link = await LoginLinks(writer.database).create(request)
    async with writer.another("li", "approve") as reviewer:
        assert f"{campaign}/approve" in await reviewer.forms(campaign)
        assert await reviewer.post("/sign-in", {"link": link}) == 303
        assert "wait for your approval" not in (await reviewer.get("/"))[1]
        assert f"{campaign}/approve" not in await reviewer.forms(campaign)
        page = await reviewer.text(campaign)
        assert "You can&#39;t approve it. It must be approved by another person: wang" in page
        assert "Sign in with DingTalk, or by a link that another administrator has made." in page
    assert "You can&#39;t approve it" not in await writer.text(campaign)


async def test_one_that_is_approved_still_has_to_be_sent(writer: Browser) -> None:
    campaign = await made(writer, await written(writer, everyone="1"), then="ask")
    async with writer.another("li", "approve") as reviewer:
        assert await reviewer.submit(campaign, f"{campaign}/approve") == 303
        for person in (writer, reviewer):
            page = await person.text(campaign)
            assert "approved, waits for its writer to send it</span>" in page
            assert "its writer still has to press Send" in page
        assert "waits for its writer to send it" in await reviewer.text("/campaigns")


async def test_those_who_approve_find_what_waits_for_them(writer: Browser) -> None:
    waiting = [
        await made(writer, await written(writer, everyone="1"), then="ask") for _ in range(2)
    ]
    other = await begun(writer)
    assert ">DingTalk approvals<" in await writer.text("/campaigns")
    page = await writer.text("/approvals")
    assert ("Broadcasts are approved on a page" in page, 'href="/campaigns"' in page) == (
        True,
        True,
    )
    async with writer.another("li", "approve") as reviewer:
        page = await reviewer.text("/campaigns")
        assert 'href="/campaigns?waiting=1">Broadcasts that wait for your approval: 2' in page
        page = await reviewer.text("/campaigns?waiting=1")
    assert [f'<a href="{path}">' in page for path in (*waiting, other)] == [True, True, False]


async def test_a_rejection_has_a_reason(writer: Browser, settings: Settings) -> None:
    draft = await written(writer, everyone="1")
    campaign = await made(writer, draft, then="ask")
    assert "wait for your approval" not in await writer.text("/campaigns")
    async with writer.another("li", "approve") as reviewer:
        _, home = await reviewer.get("/campaigns")
        assert (f'href="{campaign}"' in home, "wait for your approval: 1" in home) == (True, True)
        fields = {"reason": f"too long {HOSTILE}"}
        form = (await reviewer.forms(f"{campaign}/reject"))[f"{campaign}/reject"]
        for reason in ("", "x" * 501):
            status, page = await reviewer.send(f"{campaign}/reject", form | {"reason": reason})
            assert (status, 'id="reason-wrong"' in page, "party" in page) == (422, True, True)
        assert await reviewer.submit(f"{campaign}/reject", **fields) == 303
        assert "wait for your approval" not in await reviewer.text("/campaigns")
    listed = (await writer.get("/"))[1] or await writer.text("/campaigns")
    assert ("was rejected: too long" in listed, HOSTILE in listed) == (True, False)
    page = await writer.text(campaign)
    assert f'<a class="primary" href="{draft}/write">' in page
    for path in (campaign, f"{draft}/check", f"{draft}/review"):
        page = await writer.text(path)
        assert ("too long" in page, HOSTILE in page) == (True, False)


async def test_send_leads_only_without_a_pending_or_negative_decision(writer: Browser) -> None:
    """An approval that the settings do not require."""
    campaign = await made(writer, await written(writer), then="ask")
    send, leads = f'href="{campaign}/start"', f'<a class="primary" href="{campaign}/start"'
    page = await writer.text(campaign)
    assert (send in page, leads in page) == (True, False)
    async with writer.another("li", "approve") as reviewer:
        assert await reviewer.submit(campaign, f"{campaign}/approve") == 303
    assert leads in await writer.text(campaign)


async def test_people_come_from_the_tree_pasted_text_and_a_file(
    writer: Browser, settings: Settings
) -> None:
    draft = await begun(writer)
    form = (await writer.forms(f"{draft}/choose"))[f"{draft}/choose"]
    fields = {**form, "open": "2", "pasted": "u31\nu32，不存在\n", "without_pasted": "u32"}
    assert await writer.post(f"{draft}/choose", [*fields.items(), ("departments", "2")]) == 303
    assert "open=2" in writer.location
    page = await writer.text(writer.location)
    assert HOSTILE not in page
    for words in ("line 2: 不存在 is no person", "It names 2 people.", "It names 1 person."):
        assert words in page
    choose = f"{draft}/choose"
    texts = {"departments": "2", "pasted": f"{HOSTILE}\nu31"}
    assert await writer.submit(choose, **texts) == 303
    meant = re.findall(r'name="meant" value="([^"]*)"', await writer.text(choose))
    assert len(meant) == 5
    assert await writer.submit(choose, **texts, meant=unescape(meant[0])) == 303
    assert (await stored(settings, draft)).content.pasted == "u20\nu31"
    header = "工号,姓名\n".encode("gb18030")
    how = {"column": "工号", "kind": "job_number"}
    people = {"departments": "2", "pasted": "u31\nu32，不存在"}
    assert (await upload(writer, draft, header, "名单.csv", **people, **how))[0] == 303
    page = await writer.text(writer.location)
    assert "“名单.csv” has 0 rows, which name 0 people; its columns: 工号, 姓名." in page
    assert '<option value="job_number" selected>' in page
    found = await stored(settings, draft)
    assert (found.file_name, found.content.column) == ("名单.csv", "job_number=工号")
    assert (found.content.departments, found.content.pasted) == ([2], "u31\nu32，不存在")


async def test_the_step_of_the_people_says_which_rows_reach_no_one(
    writer: Browser, settings: Settings
) -> None:
    """The next step is that of another press of the button, when it was said."""
    draft = await written(writer)
    choose = f"{draft}/choose"
    status, page = await writer.send(
        choose, (await writer.forms(choose))[choose] | {"then": "check"}
    )
    assert (status, 'id="pasted-wrong"' in page) == (422, True)
    people = {"pasted": f"{HOSTILE}20\n不存在", "then": "check"}
    rows = "姓名,座位\n不存在,A1\n,A2\n".encode()
    status, page = await upload(writer, draft, rows, "x.csv", **people)
    assert status == 422
    for words in (
        "Go on, and they are left out.",
        "line 2: 不存在 is no person",
        "1 row names no person of the directory",
        "1 row has nothing where the person should be named",
        "line 3 of the file: has no full name",
    ):
        assert words in page, words
    assert await writer.submit(choose, **people) == 303
    assert writer.location == f"{draft}/check"
    page = await writer.text(f"{draft}/check")
    for words in (
        "2 rows name no person of the directory",
        f'<a href="{choose}">Change the people',
    ):
        assert words in page
    # Another file of the same size is read at once.
    other = rows.replace("不存在".encode(), "没有人".encode())
    status, page = await upload(writer, draft, other, "x.csv", **people)
    assert (status, "&#34;没有人&#34;" in page) == (422, True)


async def test_the_last_step_opens_once_the_draft_is_ready(writer: Browser) -> None:
    draft = await written(writer)
    send = f'href="{draft}/send"'
    assert send not in await writer.text(f"{draft}/review")
    await made(writer, draft)
    assert send in await writer.text(f"{draft}/review")


async def test_a_text_that_is_too_long_is_refused_as_a_whole(writer: Browser) -> None:
    """A length in the page would make the browser cut off what is pasted."""
    draft = await begun(writer)
    assert "maxlength" not in re.findall("<textarea[^>]*>", await writer.text(f"{draft}/write"))[0]
    form = (await writer.forms(f"{draft}/write"))[f"{draft}/write"]
    message = {
        "name": "party",
        "app": "default",
        "msgtype": "text",
        "text.content": "x" * 5_001,
        "then": "choose",
    }
    status, page = await writer.send(f"{draft}/write", form | message)
    assert (status, "x" * 5_001 in page, 'id="text.content-wrong"' in page) == (422, True, True)


async def test_a_search_for_departments_shows_what_was_sought(writer: Browser) -> None:
    draft = await begun(writer)
    for named, found in (("alert", True), ("nowhere", False)):
        page = await writer.text(f"{draft}/choose?named={named}")
        assert (f'value="{named}"' in page, "No department has this" in page) == (True, not found)


async def test_an_app_is_chosen_only_where_there_are_several(
    writer: Browser, settings: Settings
) -> None:
    assert 'id="app"' not in await writer.text("/campaigns/new")
    draft = await written(writer)
    assert 'id="app"' not in await writer.text(f"{draft}/write")
    assert (await stored(settings, draft)).content.app == "default"


async def test_an_empty_message_leads_to_no_other_step(writer: Browser, settings: Settings) -> None:
    draft = await begun(writer)
    page = f"{draft}/write"
    text = {"name": "party", "app": "default", "msgtype": "text", "text.content": " "}
    form = (await writer.forms(page))[page] | text
    status, said = await writer.send(page, form | {"then": "choose"})
    assert (status, 'id="text.content-wrong"' in said) == (422, True)
    assert (await stored(settings, draft)).content.name == "party"
    assert await writer.submit(page, **text) == 303, "saved as it is"


async def test_a_name_that_no_template_can_have_is_refused_beside_its_field(
    writer: Browser,
) -> None:
    draft = await written(writer)
    page = f"{draft}/write"
    form = (await writer.forms(page))[f"{draft}/template"]
    status, text = await writer.send(f"{draft}/template", form | {"template_name": "n" * 201})
    assert (status, 'id="template_name-wrong"' in text, "n" * 201 in text) == (422, True, True)


async def test_a_copy_is_named_as_one(writer: Browser, settings: Settings) -> None:
    """Each by another number; that of a copy is a copy of the same."""
    campaign = await made(writer, await written(writer))
    for name, language in (
        ("party (copy)", "en"),
        ("party (copy 2)", "en"),
        ("party（副本）", "zh"),
        ("party（副本 2）", "zh"),
    ):
        assert await writer.post("/language", {"language": language, "back": "/"}) == 303
        assert await writer.submit(campaign, f"{campaign}/copy", people="") == 303
        copy = writer.location.removesuffix("/write")
        assert (await stored(settings, copy)).content.name == name
    text = {"name": name, "app": "default", "msgtype": "text", "text.content": "x"}
    assert await writer.submit(f"{copy}/write", **text) == 303
    assert await writer.submit(f"{copy}/choose", everyone="1") == 303
    copy = await made(writer, copy)
    assert await writer.submit(copy, f"{copy}/copy", people="") == 303
    again = await stored(settings, writer.location.removesuffix("/write"))
    assert again.content.name == "party（副本 3）"


async def test_a_test_to_oneself_begins_with_ones_name(writer: Browser, redis: Redis) -> None:
    """Though others have it as well."""
    draft = await written(writer)
    for user in ("f1", "f2"):
        await rows.put(writer.database, UserRow, {"userid": user, "name": "王芳"})
    await writer.give("f1", "write")
    await writer.come_in("f1")
    page = f"{draft}/test"
    text = await writer.text(page)
    assert 'name="users" value="王芳"' in text
    assert await writer.submit(page, users="王芳") == 303


async def test_the_other_window_of_a_person_is_named(writer: Browser) -> None:
    draft = await written(writer)
    page = f"{draft}/write"
    form = (await writer.forms(page))[page]
    fields = {"name": "party", "app": "default", "msgtype": "text", "text.content": "first"}
    assert await writer.submit(page, **fields) == 303
    status, text = await writer.send(page, form | fields | {"text.content": "second"})
    assert status == 409
    for words in ("You have changed this draft in another window", "in the other window", "second"):
        assert words in text


@pytest.mark.parametrize(
    "error", [ServiceUnavailable("Redis is away"), ContractError("departments", "9 is gone")]
)
async def test_a_check_that_fails_ends_with_a_sentence(
    writer: Browser, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also where that takes longer than a page waits."""
    draft = await written(writer)
    campaign = await made(writer, draft)

    async def fail(service: CampaignService, id_: str) -> None:
        await asyncio.sleep(2 * SOON)
        raise error

    monkeypatch.setattr(CampaignService, "preview", fail)
    assert str(error).rpartition(": ")[2] in await writer.text(f"{draft}/check")
    if isinstance(error, ServiceUnavailable):
        page = await writer.text(f"{campaign}/start")
        assert ("Redis is away" in page, "data-live" in page) == (True, False)


async def test_a_file_that_is_no_list_of_people_is_not_taken(
    writer: Browser, settings: Settings
) -> None:
    draft = await begun(writer)
    for name, content, words in (
        ("x.xlsx", b"", "the file is empty"),
        ("x.xlsx", b"\xd6x\xb5", "no Excel file (.xlsx)"),
        ("x.xlsx", b"PK\x03\x04", "can&#39;t be read as an Excel file"),
        ("x.csv", b"\x00\x01", "the file is no text"),
        ("x.csv", "编号,备注\n1,x\n".encode("gbk"), "it has 编号, 备注."),
    ):
        status, page = await upload(writer, draft, content, name)
        assert (status, words in page, "--column" in page) == (422, True, False), words
        assert (await stored(settings, draft)).file_name == ""


async def test_it_is_said_which_people_a_file_names(writer: Browser) -> None:
    draft = await begun(writer)
    rows = b"userid,bonus\nu20,1\nu21,2\nu21,2\nxx,3\na b,4\n"
    assert (await upload(writer, draft, rows, "x.csv"))[0] == 303
    names = "“x.csv” has 5 rows, which name 2 people; its columns: userid, bonus."
    assert names in await writer.text(writer.location)


async def test_errors_use_the_labels_of_the_form(writer: Browser) -> None:
    """Each beside its field, which the summary above leads to, and nothing that was typed is lost."""
    link = {"name": "n", "app": "default", "msgtype": "link", "link.messageUrl": "intranet"}
    no_number = {"rate": "x", "start_at": "2099-01-01T09:00"}
    steps: tuple[tuple[str, dict[str, str], str, str], ...] = (
        ("write", link, "link.title", "Title</a>: is required"),
        ("write", link, "link.messageUrl", "must be an address such as https://"),
        ("write", {**link, "name": "\x01"}, "name", "Name"),
        ("choose", {"departments": "9", "column": "x" * 300}, "column", "256 characters"),
        ("review", {"quiet_from": "22:00", "quiet_to": "22:00"}, "quiet_from", "Quiet hours"),
        ("review", no_number, "rate", "can&#39;t be read"),
        ("test", {"users": "u20,u21"}, "/write#msgtype", "Message"),
        ("test", {"users": "u20 u21"}, "users", "u20, u21 are different people"),
        ("test", {"users": "u20,不存在"}, "users", "不存在 is no person in the directory"),
        ("test", {"users": "u20,wang"}, "users", "wang is no person in the directory"),
    )
    for step, fields, place, words in steps:
        page = f"{await begun(writer)}/{step}"
        status, said = await writer.send(page, (await writer.forms(page))[page] | fields)
        if status == 303:  # an incomplete message is saved
            said = await writer.text(page)
        if place.startswith("/"):
            assert f'href="{page.removesuffix(f"/{step}")}{place}"' in said
            continue
        assert words in said, re.findall(r"<h1>.*?</h1>|role=.alert.*?</div>", said)
        for mark in (f'<a href="#{place}">', f'id="{place}"', f'id="{place}-wrong"'):
            assert mark in said, (page, mark)
        (field,) = re.findall(rf'<[^>]* id="{place}"[^>]*>', said)
        assert f'aria-invalid="true" aria-describedby="{place}-wrong"' in field
        for name, value in fields.items():
            if name not in {"app", "msgtype", "departments"}:
                assert value.strip("\x01") in said, (name, value)


async def test_a_tester_is_offered_by_a_part_of_the_name(writer: Browser) -> None:
    draft = await written(writer)
    person = {"userid": "wangfang", "name": "王小芳"}
    await rows.put(writer.database, UserRow, person)
    page = f"{draft}/test"
    form = (await writer.forms(page))[page]
    status, text = await writer.send(page, form | {"users": "小芳"})
    assert (status, "王小芳" in text) == (422, True)
    (meant,) = re.findall(r'name="meant" value="([^"]+)"', text)
    status, text = await writer.send(page, form | {"users": "小芳", "meant": unescape(meant)})
    (users,) = re.findall(r'name="users" value="([^"]+)"', text)
    assert await writer.submit(page, users=users) in {303, 422}
    assert "is no person" not in text


async def test_a_name_that_can_not_be_is_refused_beside_its_field(writer: Browser) -> None:
    form = (await writer.forms("/campaigns/new"))["/campaigns/new"]
    status, page = await writer.send("/campaigns/new", form | {"name": "n" * 201, "app": "default"})
    assert (status, 'id="name-wrong"' in page, "n" * 201 in page) == (422, True, True)


async def test_a_draft_of_an_app_of_others_is_not_there(
    writer: Browser, settings: Settings
) -> None:
    draft = await begun(writer)
    async with writer.another("chen", "view") as viewer:
        assert await viewer.status(f"{draft}/write") == 403
        page = await viewer.text("/campaigns")
        assert ("/campaigns/new" in page, draft in page) == (False, True)
        assert f"{draft}/" not in (await viewer.text(draft)).replace(f"{draft}/people", "")
    await rows.put(writer.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await writer.give("clerk", "write", apps=["hr"])
    await writer.come_in("clerk")
    assert await writer.status(f"{draft}/write") == 404
    assert draft not in await writer.text("/campaigns")


async def test_people_of_a_broadcast_of_others_are_not_left_out(
    writer: Browser, settings: Settings
) -> None:
    other = await campaigns.put(writer.database, app="hr", name="salaries")
    await rows.put(writer.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await writer.give("clerk", "write", apps=["default"])
    await writer.come_in("clerk")
    draft = await begun(writer)
    page = f"{draft}/choose"
    form = (await writer.forms(page))[page] | {"departments": "2"}
    status, text = await writer.send(page, form | {"without_campaigns": other})
    assert (status, "there is no such campaign" in text) == (422, True)
    assert (await stored(settings, draft)).content.without_campaigns == []


async def test_the_check_says_what_it_takes_and_which_people_it_will_not_reach(
    writer: Browser,
) -> None:
    draft = await begun(writer)
    page = await writer.text(f"{draft}/check")
    for place in ("write#msgtype", "choose#pasted"):
        assert f'<a href="{draft}/{place}">' in page
    draft = await written(writer, pasted=f"{HOSTILE}20,u31,不存在")
    page = await writer.text(f"{draft}/check")
    for words in (
        "2 people in 2 calls",
        "1 row names no person of the directory",
        f"What {escape(HOSTILE)}20 gets",
    ):
        assert words in page
    assert HOSTILE not in page


async def test_no_page_waits_for_a_check(writer: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the check is being made; what was found serves every request within moments."""
    may_end, asked = asyncio.Event(), list[str]()

    def held(service: type, name: str) -> None:
        check = getattr(service, name)

        async def hold(self: Any, subject: str) -> Any:
            asked.append(subject)
            await may_end.wait()
            return await check(self, subject)

        monkeypatch.setattr(service, name, hold)

    draft = await written(writer, pasted="u20,u21")
    campaign = await made(writer, draft)
    held(CampaignService, "preview")
    pages = [f"{draft}/check", f"{campaign}/start"]
    for page in pages:
        async with writer.session.get(writer.url + page) as answer:
            text = await answer.text()
        assert ("It is being checked" in text, "2 people in 2 calls" in text) == (True, False)
    may_end.set()
    for page in pages * 2:
        assert "2 people in 2 calls" in await writer.text(page)
    assert asked == [draft.split("/")[2]] * 2
    changed = {"name": "party", "app": "default", "msgtype": "text", "text.content": "another text"}
    assert await writer.submit(f"{draft}/write", **changed) == 303
    await writer.text(f"{draft}/check")
    assert len(asked) == 3, "a changed draft is checked again"


async def test_a_picture_becomes_the_message(
    writer: Browser, settings: Settings, redis: Redis
) -> None:
    # DingTalk has it already.
    known = LocalFile("plan.png", "image", b"picture").digest
    await redis.set(keys.media("default", known), "@medium", ex=60)
    draft = await begun(writer)
    fields = {"name": "party", "app": "default", "msgtype": "image", "text.content": "come!"}
    for name, status, image in (
        ("talk.mp3", 422, None),
        ("<b>.exe", 422, None),
        ("plan.png", 303, {"media_id": "@medium"}),
    ):
        said, page = await upload(writer, draft, b"picture", name, "file.image.media_id", **fields)
        assert (said, "come!" in page) == (status, status == 422)
        assert (await stored(settings, draft)).content.message.get("image") == image


async def test_a_text_keeps_what_was_written_when_its_picture_is_uploaded(
    writer: Browser, settings: Settings, redis: Redis
) -> None:
    known = LocalFile("[p](x).png", "image", b"picture").digest
    await redis.set(keys.media("default", known), "@medium", ex=60)
    draft = await begun(writer)
    fields = {"name": "party", "app": "default"}
    card = {"msgtype": "action_card", "action_card.markdown": "# come", "action_card.title": "x"}
    to = "file.action_card.markdown"
    assert (await upload(writer, draft, b"picture", "[p](x).png", to, **fields, **card))[0] == 303
    message = (await stored(settings, draft)).content.message["action_card"]
    assert message == {"title": "x", "markdown": "# come\n\n![px.png](@medium)"}


async def test_an_uploaded_picture_is_seen_and_taken_again(
    writer: Browser, settings: Settings, redis: Redis
) -> None:
    content = b"\x89PNG\r\n\x1a\n picture"
    known = LocalFile("plan.png", "image", content).digest
    await redis.set(keys.media("default", known), "@me/d|um", ex=60)
    draft = await begun(writer)
    fields = {"name": "party", "app": "default", "msgtype": "image"}
    to = "file.image.media_id"
    assert (await upload(writer, draft, content, "plan.png", to, **fields))[0] == 303
    page = await writer.text(f"{draft}/write")
    (path,) = set(re.findall(r'<img src="([^"]+)" alt="Picture"', page))
    async with writer.session.get(writer.url + path) as answer:
        assert (answer.content_type, await answer.read()) == ("image/png", content)
    card = {"msgtype": "action_card", "action_card.markdown": "# come"}
    assert await writer.submit(f"{draft}/write", **fields | card, picture="@me/d|um") == 303
    message = (await stored(settings, draft)).content.message["action_card"]
    assert message["markdown"] == "# come\n\n![](@me/d|um)"
    assert f'<img src="{path}"' in await writer.text(f"{draft}/write")
    # Those of another app are not shown, and nothing but pictures is kept.
    await rows.put(writer.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await writer.give("clerk", "write", apps=["hr"])
    await writer.come_in("clerk")
    async with writer.session.get(writer.url + path) as answer:
        assert (answer.status, answer.content_type) == (200, "image/svg+xml")
    pictures = Pictures(writer.database)
    await pictures.keep("default", "x.png", "@html", b"<script>alert(1)</script>")
    assert await pictures.find("@html") is None
    assert len(await pictures.latest("default", 9)) == 1
    await delete_before(writer.database, datetime.now(UTC))
    assert await pictures.latest("default", 9) == []


async def test_texts_of_other_types_are_kept(writer: Browser, settings: Settings) -> None:
    draft = await begun(writer)
    fields = {"name": "party", "app": "default", "oa.head.bgcolor": "FF2F6BFF"}
    texts = {"text.content": "in words", "link.title": "a link", "action_card.1.title": "Yes"}
    for kind in ("text", "link", "action_card", "text"):
        sent = {**fields, **texts, "msgtype": kind}
        assert await writer.submit(f"{draft}/write", **sent) == 303
        found = (await stored(settings, draft)).content
        assert found.message["msgtype"] == kind
        assert set(found.other_messages) == {"text", "link", "action_card"} - {kind}
        page = await writer.text(f"{draft}/write")
        for text in texts.values():
            assert text in page
    assert await writer.submit(f"{draft}/choose", departments="2") == 303
    assert await made(writer, draft)


async def test_what_was_chosen_stays_though_the_page_does_not_show_it(
    writer: Browser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page shows some of the departments, and the latest broadcasts."""
    sent = [
        await campaigns.put(writer.database, state="done", started_at=datetime.now(UTC))
        for _ in range(2)
    ]
    monkeypatch.setattr(draft_console_routes, "EARLIER", 2)  # one is the draft
    draft = await begun(writer)
    page = f"{draft}/choose"
    form = (await writer.forms(page))[page]
    shown = {name: value for name, value in form.items() if name.endswith("_shown")}
    assert set(shown) == {
        "departments_shown",
        "without_departments_shown",
        "without_campaigns_shown",
    }
    both = [("without_campaigns", each) for each in sent]
    assert await writer.post(page, [*form.items(), ("departments", "9"), *both]) == 303
    chosen = (await stored(settings, draft)).content
    assert (chosen.departments, set(chosen.without_campaigns)) == ([9], set(sent))
    # It is shown, and can be ticked off; what is not on the page stays.
    text = await writer.text(page)
    assert "9, which is in the directory no more" in text
    for campaign in sent:
        assert f'value="{campaign}" checked' in text
    unseen = {"departments_shown": "2,3", "without_campaigns_shown": ""}
    assert await writer.submit(page, **unseen, departments="2") == 303
    assert (await stored(settings, draft)).content.departments == [9, 2]
    assert set((await stored(settings, draft)).content.without_campaigns) == set(sent)
    assert await writer.submit(page, departments="2") == 303
    content = (await stored(settings, draft)).content
    assert (content.departments, content.without_campaigns) == ([2], [])


async def test_people_of_a_broadcast_are_handed_out_for_a_spreadsheet(
    writer: Browser, settings: Settings
) -> None:
    campaign = await made(writer, await written(writer))
    async with writer.session.get(f"{writer.url}{campaign}/people.csv") as answer:
        assert "filename*=UTF-8''party%2020" in answer.headers["Content-Disposition"]
    status, lines = await writer.get(f"{campaign}/people.csv")
    assert (status, lines.count("\r\n"), lines.count("pending")) == (200, 4, 3)
    failed = await writer.text(f"{campaign}/people.csv?outcome=failed")
    assert failed.count("\r\n") == 1
    found = await AuditService(settings).list(AuditFilter(action="export"), limit=9)
    assert [each.after for each in found] == [
        {"outcome": "failed", "people": 0},
        *[{"people": 3}] * 2,
    ]
    assert {(each.actor, each.door, each.role) for each in found} == {("wang", "console", "write")}
    page = await writer.text(f"{campaign}/people?outcome=pending")
    assert page.count("/people/u2") == 3
    assert HOSTILE not in page
    assert await writer.status(f"{campaign}/people?after=x") == 400


@pytest.mark.parametrize("step", ["confirm", "recall"])
async def test_asking_and_taking_back_show_what_they_reach(writer: Browser, step: str) -> None:
    campaign = await campaigns.put(writer.database, people=4)
    now = datetime.now(UTC)
    calls = [
        ChunkEnding(Release(number, 1), task_id=number + 1, called_at=now, accepted=2)
        for number in range(2)
    ]
    await campaigns.end(writer.database, campaign, *calls)
    await writer.write(update(CampaignRow).values(state="done"))
    path = f"/campaigns/{campaign}/{step}"
    assert "4 people" in await writer.text(path)
    assert await writer.submit(path) == 303
    assert ("taking back was asked for" in await writer.text("/campaigns")) == (step == "recall")
    result = writer.location
    for through, ended in ((1, False), (2, True)):
        later = datetime.now(UTC) + timedelta(seconds=1)
        answered = {"recalled_at" if step == "recall" else "confirmed_at": later}
        await writer.write(update(ChunkRow).where(ChunkRow.number < through).values(answered))
        page = await writer.text(result)
        progress = f"{2 * through} of 4 people so far"
        assert (progress in page, "data-live" in page) == (not ended, not ended)
    await writer.write(update(ChunkRow).values(recalled_at=now))
    listed = await writer.text("/campaigns")
    assert ("done, taken back" in listed) == (step == "recall")
    page = await writer.text(writer.location)
    assert ("done, taken back" in page, "4 of 4" in page) == (True, True)
    if step == "recall":
        assert "taken back already" in (await writer.get(path))[1]
    await writer.write(update(ConsoleFormRow).values(at=now - timedelta(hours=1)))
    assert 'class="said"' in page
    assert 'class="said"' not in await writer.text(writer.location)
    old = {"called_at": now - timedelta(days=2), "unread_users": "u1", "unread": 1, "read": 1}
    await writer.write(update(ChunkRow).values(confirmed_at=now, **old))
    status, page = await writer.get(path)
    assert (status, "24 hours" in page) == (409, step == "confirm")
    page = await writer.text(f"/campaigns/{campaign}/people?outcome=unread")
    assert "had not read it" in page
    assert ("/people/u1" in page, "/people/u3" in page) == (True, False)


async def test_arrivals_are_shown_over_time(writer: Browser) -> None:
    campaign = await campaigns.put(writer.database, people=6)
    at = datetime(2026, 1, 2, 1, 59, tzinfo=UTC)
    moments = (at, at + timedelta(minutes=1), at + timedelta(minutes=3))
    calls = [campaigns.taken(number, called_at=moment) for number, moment in enumerate(moments)]
    await campaigns.end(writer.database, campaign, *calls)
    page = await writer.text(f"/campaigns/{campaign}")
    figure = page[page.index("Arrivals over time") :].partition("</figure>")[0]
    assert figure.count("<rect") == figure.count('<td class="n">2</td>') == 3
    assert "every 1 min" in figure
    assert "09:59" in figure.partition("<tbody>")[2]
    # One that has just begun has no course yet.
    empty = await campaigns.put(writer.database)
    assert "Arrivals" not in await writer.text(f"/campaigns/{empty}")


async def test_a_draft_is_deleted_after_a_question(writer: Browser) -> None:
    draft = await begun(writer)
    assert await writer.submit(f"{draft}/delete") == 303
    assert await writer.status(f"{draft}/write") == 404


async def test_a_broadcast_that_has_ended_is_deleted_after_a_question(writer: Browser) -> None:
    campaign = await campaigns.put(writer.database, people=4)
    path = f"/campaigns/{campaign}"
    assert f"{path}/delete" not in await writer.text(path)
    assert await writer.submit(f"{path}/delete") == 409
    await writer.write(update(CampaignRow).values(state="done"))
    assert f"{path}/delete" in await writer.text(path)
    assert "what was sent can&#39;t be taken back" in await writer.text(f"{path}/delete")
    assert await writer.submit(f"{path}/delete") == 303
    assert await writer.status(path) == 404


@pytest.mark.parametrize(
    ("path", "referer", "following"),
    [
        ("write", "", "{draft}/write"),
        ("submit", "{url}{draft}/review", "{draft}/review"),
        ("submit", "http://elsewhere{draft}/review", ""),
    ],
)
async def test_a_form_after_the_end_of_its_session_leads_back_to_its_page(
    writer: Browser, path: str, referer: str, following: str
) -> None:
    draft = await begun(writer)
    writer.session.cookie_jar.clear()
    headers = {"Referer": referer.format(url=writer.url, draft=draft)}
    assert await writer.post(f"{draft}/{path}", {"name": "x"}, **headers) == 303
    query = urlsplit(writer.location).query
    assert parse_qs(query).get("next", [""]) == [following.format(draft=draft)]
    page = await writer.text(writer.location)
    assert "nothing was saved" in page
    link = await LoginLinks(writer.database).create(LoginLinkRequest(user="wang", role="write"))
    form = (await writer.forms(f"/sign-in?link={link}"))["/sign-in"]
    assert form["next"] == following.format(draft=draft)
    assert await writer.post("/sign-in", form) == 303
    assert writer.location == (following.format(draft=draft) or "/")
