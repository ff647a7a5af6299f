"""Changes in the console to jobs, approvals and webhooks: each takes effect once, and only from the state that was
seen."""

import asyncio
import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update

from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import zone
from dingrelay_workers.approvals.console_routes import OF_APPROVAL
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.console import many_jobs
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.console.visit import PAGE
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history import service
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http import paging
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks import console_routes as webhooks
from support import rows
from support.consoles import HTML, Browser
from support.jobs import cancel, claimed, enqueue, message, queued, running, state
from support.webhooks import subscribe


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    await browser.sign_in("ops", "operate")
    return browser


async def ended(
    redis: Redis,
    records: Records,
    to: State = State.DEAD,
    code: str = "60121",
    user: str = "u1",
    **fields: Any,
) -> Draft:
    """A job that has failed, with HTML in what DingTalk said."""
    draft = record.draft(message(user, **fields))
    await enqueue(redis, draft)
    error = {"class": "not_found", "code": code, "message": HTML, "hint": HTML}
    await records.settle(await claimed(records, draft), to, usage=Usage(), error=error)
    return draft


def all_jobs(change: str, job_filter: str) -> str:
    """Path of the page that asks before all jobs of a filter are changed."""
    return f"/jobs/all/{change}?{urlencode({'q': job_filter}, safe=':')}"


async def audited(browser: Browser) -> list[tuple[str, str, str]]:
    """Actor, action and object of each change in the audit."""
    query = select(AuditRow.actor, AuditRow.action, AuditRow.object).where(AuditRow.kind == "job")
    return [(*row,) for row in await browser.rows(query.order_by(AuditRow.number))]


async def test_a_waiting_job_is_cancelled_and_a_running_one_is_not_tried_again(
    browser: Browser, redis: Redis, records: Records
) -> None:
    waiting = await queued(redis)
    runs, _ = await running(redis, records, text="runs")
    for job, says in ((waiting, "The job is cancelled."), (runs, "this run goes on")):
        page = f"/jobs/{job.id}"
        assert await browser.submit(page, f"{page}/cancel") == 303
        assert says in await browser.text(browser.location)
    assert await state(redis, waiting) == "cancelled"
    assert await redis.hget(keys.job(runs.id), "cancel") == b"1"
    assert await audited(browser) == [("ops", "cancel", job.id) for job in (waiting, runs)]


async def test_a_dead_job_is_requeued_once_by_a_double_click(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    page = f"/jobs/{job.id}"
    form = (await browser.forms(page))[f"{page}/requeue"]
    both = await asyncio.gather(*(browser.post(f"{page}/requeue", form) for _ in range(2)))
    assert both == [303, 303]
    assert await state(redis, job) == "queued"
    assert len(await audited(browser)) == 1


async def test_a_form_of_another_state_changes_nothing_and_says_what_has_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await queued(redis)
    page = f"/jobs/{job.id}"
    form = (await browser.forms(page))[f"{page}/cancel"]
    await records.settle(await claimed(records, job), State.DONE, usage=Usage())
    status, text = await browser.send(f"{page}/cancel", form)
    assert (status, "not over yet" in text) == (409, True)
    assert await state(redis, job) == "done"
    assert f"{page}/cancel" not in await browser.forms(page)


async def test_a_job_is_discarded_after_a_question(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    assert '<button class="danger">' in await browser.text(f"/jobs/{job.id}/discard")
    assert '<button class="primary">' in await browser.text(f"/jobs/{job.id}/requeue")
    assert await browser.submit(f"/jobs/{job.id}/discard") == 303
    assert await state(redis, job) == "none"
    assert await audited(browser) == [("ops", "discard", job.id)]


async def test_a_waiting_job_is_postponed_to_a_moment_of_the_reader(
    browser: Browser, redis: Redis
) -> None:
    job = await queued(redis)
    page = f"/jobs/{job.id}/postpone"
    assert page in await browser.text(f"/jobs/{job.id}")
    form = (await browser.forms(page))[page]
    status, text = await browser.send(page, form | {"until": "tomorrow"})
    assert (status, 'id="until-wrong"' in text, 'value="tomorrow"' in text) == (422, True, True)
    assert await browser.submit(page, until="2099-01-02T10:00") == 303
    assert "The job is postponed." in await browser.text(browser.location)
    due = datetime(2099, 1, 2, 10, tzinfo=zone()).timestamp()
    assert await redis.hget(keys.job(job.id), "not_before") == str(int(due * 1000)).encode()
    assert await audited(browser) == [("ops", "postpone", job.id)]


@pytest.mark.parametrize("verb", [verb for verb in verbs_of(Jobs) if verb.question])
async def test_a_verb_asks_before_it_is_carried_out(
    browser: Browser, redis: Redis, records: Records, verb: Verb
) -> None:
    waiting, failed = await queued(redis), await ended(redis, records, text="failed")
    job = waiting if verb.name == "postpone" else failed
    assert verb.question
    assert verb.question.title in await browser.text(f"/jobs/{job.id}/{verb.name}")


@pytest.mark.parametrize(("happened", "after"), [("yes", "done"), ("no", "queued")])
async def test_a_job_is_resolved_with_a_reason(
    browser: Browser, redis: Redis, records: Records, happened: str, after: str
) -> None:
    job = await ended(redis, records, State.UNKNOWN, "unknown")
    page = f"/jobs/{job.id}/resolve"
    assert await browser.submit(page, happened=happened, reason="") == 422
    assert await browser.submit(page, happened="perhaps", reason="seen") == 422
    assert await state(redis, job) == "unknown"
    assert await browser.submit(page, happened=happened, reason=f"seen {HTML}") == 303
    assert await state(redis, job) == after
    reasons = select(AuditRow.reason).where(AuditRow.kind == "job")
    assert await browser.rows(reasons) == [(f"seen {HTML}",)]
    text = await browser.text(f"/jobs/{job.id}")
    assert HTML not in text
    times = re.findall(r'<time datetime="([^"]+)"', text.partition('class="life"')[2])
    assert (len(times) >= 3, times) == (True, sorted(times))


async def test_an_unknown_job_offers_the_action_and_names_no_command(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await queued(redis)
    claim = await claimed(records, job)
    error = record.CANCELLED_TOO_LATE
    await records.settle(claim, State.UNKNOWN, usage=Usage(), error=error)
    page, all_of_them = await browser.text(f"/jobs/{job.id}"), await browser.text("/dead")
    for text in (page, all_of_them):
        assert "dingrelay job" not in text
        assert "the role operate" in text
    assert f"/jobs/{job.id}/resolve" in page


@pytest.mark.parametrize(("change", "after"), [("requeue", "queued"), ("discard", "none")])
async def test_failed_jobs_of_a_code_are_changed_after_their_number_is_typed(
    browser: Browser, redis: Redis, records: Records, change: str, after: str
) -> None:
    chosen = [await ended(redis, records, text=f"text {each}", sender="crm") for each in range(12)]
    other = await ended(redis, records, code="33012", text="other")
    groups = await browser.text("/dead")
    assert escape(HTML) in groups
    # Whose they are, and from when to when they failed.
    row = next(row for row in groups.split("<tr>") if ">60121<" in row)
    assert re.search(
        r"q=state%3Adead%20code%3A60121%20app%3A\w+%20sender%3Acrm\">crm</a> <small>12<", row
    )
    assert row.count("<time") == 2
    page = all_jobs(change, "state:dead code:60121")
    assert f'"/jobs/all/{change}?q=state%3Adead%20code%3A60121"' in groups
    shown = (await browser.text(page)).partition("<main")[2]
    assert shown.count("<li>") == many_jobs.EXAMPLES
    status, again = await browser.send(page, (await browser.forms(page))[page] | {"count": "11"})
    assert status == 422
    assert re.search(r'id="count" [^>]*value="11"[^>]*aria-invalid="true"', again)
    assert again.count("another number was typed") == 2
    assert await browser.submit(page, count="12") == 303
    assert {await state(redis, each) for each in chosen} == {after}
    assert await state(redis, other) == "dead"
    assert sorted(await audited(browser)) == sorted(("ops", change, each.id) for each in chosen)
    assert f"12 jobs are {change}" in await browser.text(browser.location)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ("requeue", "将 1 个任务重新入队？"),
        ("discard", "永久丢弃 1 个任务？"),
        ("cancel", "取消 1 个任务？"),
    ],
)
async def test_a_change_of_many_jobs_is_confirmed_in_the_readers_language(
    browser: Browser, redis: Redis, records: Records, change: str, title: str
) -> None:
    await (
        queued(redis, sender="crm") if change == "cancel" else ended(redis, records, sender="crm")
    )
    job_filter = "sender:crm" if change == "cancel" else "state:dead"
    page, chinese = all_jobs(change, job_filter), {"Accept-Language": "zh-CN"}
    _, text = await browser.get(page, **chinese)
    shown = re.sub(r"<[^>]+>", " ", text.partition("<main")[2])
    assert title in shown
    assert "工作通知 · crm" in shown, "an example, in words"
    assert "jobs" not in shown


async def test_all_waiting_jobs_of_a_filter_are_cancelled_and_no_others(
    browser: Browser, redis: Redis, records: Records
) -> None:
    waiting = [await queued(redis, text=f"text {number}", sender="crm") for number in range(3)]
    other = await queued(redis, text="other", sender="hr")
    failed = await ended(redis, records, text="failed", sender="crm")
    page = all_jobs("cancel", "sender:crm")
    assert escape(page.partition("?")[0]) in await browser.text("/jobs?q=sender:crm")
    assert "/jobs/all/" not in await browser.text("/jobs"), "all there are is no filter"
    assert await browser.submit(page, count="3") == 303
    assert "3 jobs are cancelled." in await browser.text(browser.location)
    assert {await state(redis, job) for job in waiting} == {"cancelled"}
    assert [await state(redis, job) for job in (other, failed)] == ["queued", "dead"]
    assert sorted(await audited(browser)) == sorted(("ops", "cancel", job.id) for job in waiting)
    assert await browser.status(all_jobs("cancel", "stat:dead")) == 400
    assert await browser.status(all_jobs("cancel", "sender:none")) == 303


async def test_jobs_of_a_filter_are_a_file_for_a_spreadsheet(
    browser: Browser, redis: Redis, records: Records
) -> None:
    chosen = [
        await ended(redis, records, text=f"text {number}", sender="crm") for number in range(60)
    ]
    await queued(redis, text="other")
    assert "/jobs.csv?q=sender%3Acrm" in await browser.text("/jobs?q=sender:crm")
    text = await browser.text("/jobs.csv?q=sender:crm")
    table = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert {row["job"] for row in table} == {job.id for job in chosen}
    assert {(row["state"], row["sender"], row["error"]) for row in table} == {
        ("failed for good", "crm", "60121")
    }
    assert await browser.status("/jobs.csv?q=nonsense") == 400


async def test_ticked_jobs_are_requeued_and_no_others(
    browser: Browser, redis: Redis, records: Records
) -> None:
    ticked, other = [await ended(redis, records, text=f"text {each}") for each in range(2)]
    assert f'name="job" value="{ticked.id}"' in await browser.text("/jobs?q=state:dead")
    page = f"/jobs/all/requeue?job={ticked.id}"
    form = (await browser.forms(page))[page]
    # The URL of the form names the jobs: the token was made for these.
    assert await browser.post(f"/jobs/all/requeue?job={other.id}", form | {"count": "1"}) == 409
    assert await browser.post(page, form | {"count": "1"}) == 303
    assert await state(redis, ticked) == "queued"
    assert await state(redis, other) == "dead"


async def test_more_failed_jobs_than_were_asked_about_are_not_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    page = all_jobs("discard", "state:dead code:60121")
    form = (await browser.forms(page))[page]
    later = await ended(redis, records, text="later")
    assert await browser.post(page, form | {"count": "1"}) == 409
    assert {await state(redis, each) for each in (job, later)} == {"dead"}


async def test_as_many_others_as_were_asked_about_are_not_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    seen, away = [await ended(redis, records, text=f"text {each}") for each in range(2)]
    page = all_jobs("discard", "state:dead code:60121")
    form = (await browser.forms(page))[page]
    await run_async(redis, record.requeue(away.id))
    later = await ended(redis, records, text="later")
    assert await browser.post(page, form | {"count": "2"}) == 409
    assert {await state(redis, each) for each in (seen, later)} == {"dead"}


async def test_viewers_are_offered_no_changes(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    async with browser.another("reader", "view") as reader:
        assert set(await reader.forms(f"/jobs/{job.id}")) == {"/language", "/sign-out"}
        assert "/jobs/all/" not in await reader.text("/dead")
        assert "/jobs/all/" not in await reader.text("/jobs?q=state:dead")


async def test_impossible_changes_are_refused(
    browser: Browser, redis: Redis, records: Records
) -> None:
    for path in ("/jobs/none/discard", all_jobs("forget", "state:dead"), "/jobs/all/requeue"):
        assert await browser.status(path) == 404
    job, failed = await queued(redis), await ended(redis, records, text="failed")
    form = (await browser.forms(f"/jobs/{failed.id}"))[f"/jobs/{failed.id}/requeue"]
    await cancel(redis, job.id)
    for change in ("discard", "resolve"):
        assert await browser.status(f"/jobs/{job.id}/{change}") == 409
    assert await browser.post(f"/jobs/{failed.id}/discard", form) == 403  # of another form
    assert await audited(browser) == []
    assert await browser.status(f"/jobs?q={failed.id}") == 303


async def test_the_filter_names_the_field_that_it_can_not_read(browser: Browser) -> None:
    for asked, says in (
        ("nonsense", "nonsense"),
        ("stat:dead", "there are state, app, to"),
        ("state:", "state: a value is missing"),
        ("state:gone", "state: there is no"),
        ("lane:fast", "urgent, normal, bulk"),
        ("since:soon", "since: must be"),
        ("until:2026-99-01", "until: must be"),
        ("app:<script>", "No job fits"),
    ):
        status, text = await browser.get(f"/jobs?q={asked}")
        assert (status, says in text) == (200 if "fits" in says else 400, True), asked
        assert f'value="{escape(asked)}"' in text


async def test_the_filter_finds_by_code_person_and_time(
    browser: Browser, redis: Redis, records: Records
) -> None:
    one = await ended(redis, records, user="u/7")
    two = await ended(redis, records, code="33012", text="two")
    for asked, found in (
        ("code:60121", {one.id}),
        ("state:dead code:33012", {two.id}),
        ("to:u/7", {one.id}),
        ("since:1h", {one.id, two.id}),
        ("until:1h", set[str]()),
        ("app:other", set[str]()),
    ):
        text = await browser.text("/jobs?q=" + asked.replace(" ", "+"))
        assert {each for each in (one.id, two.id) if f"/jobs/{each}" in text} == found, asked
    assert 'href="/people/u%2F7"' in await browser.text(f"/jobs/{one.id}")
    assert await browser.status("/people/u%2F7") == 200


async def notices(browser: Browser, *states: str) -> list[int]:
    """Deliveries to the endpoint in these states; the numbers of their notices."""
    await subscribe(browser.database, name=HTML, url="https://a.example/<script>")
    now = datetime.now(UTC)
    made = [Notice(type="job.dead", app="default", at=now, data={"id": each}) for each in states]
    async with browser.database.write("tests") as connection:
        numbers = list((await outbox.record(connection, made)).values())
    row = {"endpoint": "drw_test", "reason": HTML, "attempts": 3, "code": "http_503"}
    ends = [{"notice": at, "state": each} for at, each in zip(numbers, states, strict=True)]
    await rows.put(browser.database, DeliveryRow, *(row | each for each in ends))
    return numbers


async def delivery_states(browser: Browser) -> list[str]:
    return [
        state
        for (state,) in await browser.rows(select(DeliveryRow.state).order_by(DeliveryRow.notice))
    ]


async def test_an_endpoint_is_paused_and_resumed_with_or_without_what_waits(
    browser: Browser,
) -> None:
    await notices(browser, "pending", "delivered")
    page = "/webhooks/drw_test"
    form = (await browser.forms(page))[f"{page}/pause"]
    assert await browser.post(f"{page}/pause", form) == 303
    assert await browser.post(f"{page}/pause", form | {"more": "1"}) == 409
    assert await browser.submit(f"{page}/skip", f"{page}/resume", count="7") == 422
    assert await browser.submit(page, f"{page}/resume") == 303
    assert await delivery_states(browser) == ["pending", "delivered"]
    assert await browser.submit(page, f"{page}/pause") == 303
    assert await browser.submit(f"{page}/skip", f"{page}/resume", count="1") == 303
    assert await delivery_states(browser) == ["skipped", "delivered"]


async def test_the_filter_suggests_what_there_is_and_takes_two_days(
    browser: Browser, redis: Redis, records: Records
) -> None:
    await ended(redis, records, code="60011", sender="crm")
    page = await browser.text("/jobs?q=lane:normal")
    for suggestion in ("sender:crm", "code:60011", "state:dead", "kind:message-send"):
        assert f'<option value="lane:normal {suggestion}">' in page, suggestion
    assert "<title>Jobs: lane:normal" in page, "a bookmark is called by its filter"
    today = datetime.now(zone()).date().isoformat()
    assert await browser.status(f"/jobs?q=sender:crm+until:1h&since={today}&until={today}") == 303
    # The last day is one of them, in the filter that was typed as well.
    for query in (f"sender:crm+since:{today}+until:{today}", "sender:crm+since:1h"):
        assert "60011" in (await browser.text(f"/jobs?q={query}")).partition("<tbody>")[2]
    assert await browser.status("/jobs?q=&since=soon") == 303
    assert await browser.status("/jobs?q=since:soon") == 400


async def test_an_endpoint_that_accepts_nothing_is_news_on_its_list_and_the_first_page(
    browser: Browser,
) -> None:
    await subscribe(browser.database, id="drw_away", name="crm")
    page = "/webhooks/drw_away"
    assert "accepts nothing" not in await browser.text("/webhooks")
    ago = datetime.now(UTC) - timedelta(minutes=20)
    failing = {"failing_since": ago, "failures": 9, "last_failure": "http_500"}
    await browser.write(update(EndpointRow).values(failing))
    for path in ("/", "/webhooks", page):
        assert re.search("accepts nothing since .*no notice is lost", await browser.text(path)), (
            path
        )
    async with browser.another("writer", "write") as writer:
        assert "accepts nothing" not in await writer.text("/campaigns")
    # Who has mended it need not wait for the next try.
    assert "Try again now" in await browser.text(page)
    assert await browser.submit(page, f"{page}/resume") == 303
    assert "accepts nothing" not in await browser.text("/webhooks")


async def test_one_notice_or_those_of_a_time_are_delivered_again(browser: Browser) -> None:
    dead, _ = await notices(browser, "dead", "delivered")
    page = "/webhooks/drw_test"
    text = await browser.text(page)
    assert (HTML in text, text.count('name="notice"')) == (False, 2)
    assert await browser.submit(page, f"{page}/replay", notice=str(dead)) == 303
    assert await delivery_states(browser) == ["pending", "delivered"]
    assert await browser.submit(page, f"{page}/replay", notice="12345") == 409
    assert await browser.submit(page, f"{page}/replay", since="soon") == 400
    assert await browser.submit(page, f"{page}/replay", since="2d", until="1d") == 303
    assert "0 notices are delivered again" in await browser.text(browser.location)
    assert await browser.submit(page, f"{page}/replay", since="2d") == 303
    assert await delivery_states(browser) == ["pending", "pending"]
    assert "2 notices are delivered again" in await browser.text(browser.location)
    assert "No delivery fits." in await browser.text(f"{page}?state=dead")
    assert await browser.status(f"{page}?state=gone") == 400
    assert await browser.status(f"{page}?after=x") == 400


async def test_deliveries_are_shown_a_page_at_a_time(browser: Browser) -> None:
    await notices(browser, *["delivered"] * (PAGE + 1))
    pages = "".join(await browser.pages("/webhooks/drw_test"))
    assert len(re.findall(r"job\.dead<(?:/td|br)>", pages)) == PAGE + 1


async def test_a_test_without_a_worker_says_so(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.1)
    await subscribe(browser.database)
    page = "/webhooks/drw_test"
    assert await browser.submit(page, f"{page}/test") == 303
    assert "No worker has sent the test yet" in await browser.text(browser.location)


async def an_approval(browser: Browser, **fields: Any) -> str:
    """An approval for which u2 has to decide; the path of its page."""
    named = {"instance": "i/1", "state": "running"}
    row = {**named, "originator": "u1", "title": HTML, "source": "event", **fields}
    await rows.put(browser.database, ApprovalRow, row)
    await rows.put(browser.database, ApprovalTaskRow, {**named, "task": "t1", "user": "u2"})
    return "/approvals/default/i%2F1"


async def job_of(browser: Browser, redis: Redis) -> dict[str, Any]:
    """Payload of the job to which the last form led."""
    id_ = re.sub(r".*/jobs/|\?.*", "", browser.location)
    return json.loads(await redis.hget(keys.job(id_), "payload") or b"{}")


async def test_an_approval_is_withdrawn_or_decided_by_a_job(browser: Browser, redis: Redis) -> None:
    page = await an_approval(browser, link="javascript:alert(1)")
    text = await browser.text(page)
    assert (HTML in text, "javascript:" in text) == (False, False)
    form = (await browser.forms(page))[f"{page}/decide"]
    assert form["user"] == "u2"
    agrees = form | {"decision": "agree", "reason": "ok"}
    assert [await browser.post(f"{page}/decide", agrees) for _ in range(2)] == [303, 303]
    job = await job_of(browser, redis)
    assert (job["instance"], job["user"], job["decision"]) == ("i/1", "u2", "agree")
    assert await browser.post(f"{page}/decide", form | {"user": "u9"}) == 400
    assert await browser.submit(page, f"{page}/terminate", reason="") == 422
    assert await browser.submit(page, f"{page}/terminate", reason="x" * 5_000) == 422
    assert await browser.submit(page, f"{page}/terminate", reason="by mistake") == 303
    assert (await job_of(browser, redis))["body"]["remark"] == "by mistake"
    query = select(AuditRow.action, AuditRow.reason, AuditRow.app)
    query = query.where(AuditRow.kind == "approval")
    assert await browser.rows(query.order_by(AuditRow.number)) == [
        ("agree", "ok", "default"),
        ("terminate", "by mistake", "default"),
    ]


async def test_an_approval_is_not_decided_in_a_lane_that_the_role_has_not(browser: Browser) -> None:
    page = await an_approval(browser)
    await rows.put(browser.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await browser.give("clerk", "operate", lanes=["bulk"])
    session = await browser.come_in("clerk")
    assert session
    assert f"{page}/decide" not in await browser.text(page)
    seen = {"state": OF_APPROVAL["running"].words, "waits for": "u2"}
    form = FormToken(0, seen, "", page).sealed(session, f"{page}/decide")
    assert await browser.post(f"{page}/decide", {"form": form, "user": "u2"}) == 403


async def test_an_approval_that_has_ended_since_is_not_decided(
    browser: Browser, redis: Redis
) -> None:
    page = await an_approval(browser)
    form = (await browser.forms(page))[f"{page}/terminate"] | {"reason": "late"}
    await browser.write(update(ApprovalRow).values(state="approved"))
    assert await browser.post(f"{page}/terminate", form) == 409
    assert set(await browser.forms(page)) == {"/language", "/sign-out"}
    for path in ("/approvals/other/i%2F1", "/approvals/default/none"):
        assert await browser.status(path) == 404
    assert "No approval fits." in await browser.text("/approvals?state=running")
    assert await browser.status("/approvals?state=gone") == 400
    assert not await redis.exists(keys.RECENT)


async def test_objects_outside_a_role_are_neither_shown_nor_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    other = await ended(redis, records, text="other")
    lane = await ended(redis, records, text="lane", app="hr", lane="urgent")
    own = await ended(redis, records, text="own", app="hr", lane="bulk")
    approval = await an_approval(browser)
    await notices(browser, "delivered")
    # Two of one name in the directory of an app that is not theirs.
    people = (("clerk", "张三"), ("one", "李四"), ("two", "李四"))
    named = [{"userid": userid, "name": name} for userid, name in people]
    await rows.put(browser.database, UserRow, *named)
    await browser.give("clerk", "operate", apps=["hr"], lanes=["bulk"])
    assert await browser.come_in("clerk")
    for path in ("/jobs", "/jobs?q=state:dead", all_jobs("requeue", "state:dead code:60121")):
        text = await browser.text(path)
        assert [each.id in text for each in (own, other, lane)] == [True, False, False], path
    for path in (f"/jobs/{other.id}", f"/jobs/{lane.id}/discard", approval, "/webhooks/drw_test"):
        assert await browser.status(path) == 404, path
    for path in ("/approvals", "/webhooks", "/limits", "/people/u2"):
        assert escape(HTML) not in await browser.text(path), path
    assert await browser.status("/jobs?q=to:李四") == 200
    assert "may have happened: 1, of these 1" in await browser.text("/")
    page = all_jobs("requeue", "state:dead code:60121")
    assert await browser.submit(page, count="1") == 303
    assert [await state(redis, each) for each in (other, lane, own)] == ["dead", "dead", "queued"]


async def test_the_lanes_of_one_role_are_not_those_of_another(
    browser: Browser, redis: Redis, records: Records
) -> None:
    own = await ended(redis, records, text="own", app="hr", lane="bulk")
    cross = await ended(redis, records, text="cross", app="hr", lane="urgent")
    await rows.put(browser.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await browser.give("clerk", "operate", apps=["hr"], lanes=["bulk"])
    await browser.give("clerk", "view", apps=["it"])
    assert await browser.come_in("clerk")
    for path in ("/jobs", "/jobs?q=state:dead", all_jobs("requeue", "state:dead code:60121")):
        text = await browser.text(path)
        assert [each.id in text for each in (own, cross)] == [True, False], path
    assert [await browser.status(f"/jobs/{each.id}") for each in (own, cross)] == [200, 404]


async def got(
    browser: Browser, user: str, outcome: str, *jobs: tuple[str, datetime], **job: Any
) -> None:
    """Messages to a person in the history."""
    row = {"kind": "message-send", "lane": "normal", "state": "done", "ids": [], "summary": HTML}
    got = {"user": user, "outcome": outcome}
    await rows.put(browser.database, JobRow, *({**row, **job, "job": id_} for id_, _ in jobs))
    await rows.put(
        browser.database, RecipientRow, *({**got, "job": id_, "at": at} for id_, at in jobs)
    )


async def test_the_messages_to_a_person_are_a_file_for_a_spreadsheet(browser: Browser) -> None:
    now = datetime.now(UTC)
    id_ = "00000000-1111-4111-8111-1111111111{:02}"
    jobs = [(id_.format(number), now - timedelta(hours=number)) for number in range(60)]
    await got(browser, "u1", "accepted", *jobs, sender="=crm")
    assert "/people/u1/messages.csv?since=2d" in await browser.text("/people/u1?since=2d")
    for query, rows_in_file in (("", 60), ("?since=9h", 9)):
        text = await browser.text(f"/people/u1/messages.csv{query}")
        table = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
        assert len(table) == rows_in_file
        assert {row["sender"] for row in table} == {"'=crm"}, "no formula"
        assert {row["what became of it"] for row in table} == {"sent"}


async def test_a_message_to_a_person_is_in_words_with_what_to_do(browser: Browser) -> None:
    says = {
        "text users=1": "Plain text to one person",
        "oa users=20 departments=1": "Notice with a table to departments",
        "action_card users=20": "Card with buttons to 20 people",
        "markdown everyone": "Text with headings and lists to everyone",
        "sticker users=20": "sticker to 20 people",
    }
    failed = {"state": "dead", "error_class": "permission", "error_code": "60011"}
    id_ = "00000000-1111-4111-8111-11111111111{}"
    for number, what in enumerate(says):
        summary = f"message-send app=default lane=normal sender=hr {what}"
        job = (id_.format(number), datetime.now(UTC))
        await got(browser, "u1", "not_sent", job, **failed, summary=summary)
    person = await browser.text("/people/u1")
    assert [each for each in says.values() if each not in person] == []
    for text in (person, await browser.text(f"/jobs/{id_.format(0)}")):
        assert ("Grant the app this permission" in text, "`" in text) == (True, False)


async def test_messages_to_a_person_are_shown_by_time_and_a_page_at_a_time(
    browser: Browser,
) -> None:
    now, page = datetime.now(UTC), "/people/u%2F1"
    jobs = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(PAGE + 5)]
    # Two at each moment.
    moments = [(id_, now - timedelta(hours=number // 2)) for number, id_ in enumerate(jobs)]
    await got(browser, "u/1", "duplicate", *moments)
    texts = "".join(await browser.pages(page))
    assert HTML not in texts
    assert sorted(re.findall(r'href="/jobs/([^"]+)"', texts)) == jobs
    for asked, count in (("since=90m", 4), ("until=90m", PAGE), ("since=1d&until=22h", 4)):
        text = await browser.text(f"{page}?{asked}")
        assert text.count('href="/jobs/0') == count, asked
    for asked in ("since=soon", "until=x", "after=x"):
        assert await browser.status(f"{page}?{asked}") == 400


async def test_a_list_goes_on_without_the_id_of_what_is_not_seen(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_MESSAGES", 4)
    now = datetime.now(UTC)
    ids = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(12)]
    for number, id_ in enumerate(ids):
        await got(browser, "u1", "accepted", (id_, now - timedelta(hours=number // 2)))
    hidden = JobRow.job.in_(ids[2::3])
    await browser.write(update(JobRow).where(hidden).values(app="other"))
    await rows.put(browser.database, UserRow, {"userid": "clerk", "name": "clerk"})
    await browser.give("clerk", "operate", apps=["default"])
    await browser.come_in("clerk")
    texts = await browser.pages("/people/u1")
    shown = re.findall(r'href="/jobs/([^"]+)"', "".join(texts))
    assert sorted(shown) == sorted(set(ids) - set(ids[2::3]))
    cursors = [
        paging.decode(unescape(text), datetime, str)
        for text in re.findall(r"after=([\w-]+)", "".join(texts))
    ]
    assert cursors
    assert not {place[1] for place in cursors} & set(ids[2::3])
