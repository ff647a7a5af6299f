"""``/v1/campaigns``: broadcasts over HTTP, each verb of the command line."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any, BinaryIO

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    MalformedRecipients,
    Plan,
)
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.errors import CampaignNotFound, ServiceUnavailable
from dingrelay_producers.language import spoken
from dingrelay_producers.store import record
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import LANES, Contract, ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import upload
from dingrelay_workers.campaigns.documents import (
    UPLOAD_SCHEMA,
    ApproveRequest,
    CampaignFields,
    CampaignRequest,
    ConfirmRequest,
    FollowUpCost,
    JobsDocument,
    RejectRequest,
    StartRequest,
    TestRequest,
)
from dingrelay_workers.campaigns.report import CampaignPeople, CampaignReport
from dingrelay_workers.campaigns.result_table import people_csv
from dingrelay_workers.campaigns.review import CampaignReview
from dingrelay_workers.campaigns.service import CampaignService, Verb
from dingrelay_workers.campaigns.upload import FORM, arrived
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.api_keys import PERSONAL, ApiKey, Grant
from dingrelay_workers.http.authentication import check_app, may_see
from dingrelay_workers.http.job_routes import accepted, job_response, key_conflict
from dingrelay_workers.http.problems import FieldError, Problem, wanted_language
from dingrelay_workers.http.routes import (
    Body,
    GatewayContext,
    HttpCall,
    RouteAnswer,
    Routes,
    creates,
    links,
)

TIMEOUT = 1.8
"""Seconds for the database; after that it counts as away."""
COUNTING = 20.0
"""Seconds for what counts over all of a campaign's people."""
UNNAMED: dict[str, Any] = dict.fromkeys(("name", "job_number", "mobile", "departments"), "")
NAMED_IDS = 100
"""Ids of accepted jobs in an answer."""

CampaignPage = paging.page_of(
    "CampaignPage", "Some campaigns, latest first.", campaigns=CampaignStatus
)

ROUTES = Routes(tag="campaigns")
_one = partial(ROUTES, path_parameters={"id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}})
_read = partial(_one, scope="campaigns:read")
APPROVING = "campaigns:approve"
_decide = partial(_one, scope=APPROVING, problems=frozenset({404, 409}))
_change = partial(_one, scope="campaigns:write", problems=frozenset({404, 409}))

_UPLOAD = Body(model=CampaignRequest, others={FORM: UPLOAD_SCHEMA}, limit=None, reader=arrived)
_FILES = """\
The body is JSON, or a form (`multipart/form-data`) with the same JSON in the part `campaign` and \
files of any length in the parts `recipients` and `without`: CSV in UTF-8 or GB18030, or the first sheet of an \
Excel file (.xlsx), each under a header, or one JSON object a line. The column `userid`, or `job_number` (工号), \
`mobile` (手机号) or `email` (邮箱), names the people; `column` names another one.

Rows that name no person are refused with their lines, and nothing is created, unless `malformed` is \
`skip`."""


class CampaignPaging(paging.Paging):
    """Page of a list of campaigns."""

    cursor: Annotated[Any, paging.Behind(datetime, str)] = None


@ROUTES(
    "POST /v1/campaigns",
    creates("The campaign.", CampaignStatus, "Where the campaign can be looked at."),
    scope="campaigns:write",
    body=_UPLOAD,
    description=f"Nothing is sent before it is started.\n\n{_FILES}",
    links={201: links("getCampaign", "startCampaign", "cancelCampaign", "reportCampaign")},
)
async def create_campaign(call: HttpCall) -> CampaignStatus:
    """Make a campaign with its recipients that is ready."""
    created = await _made_before(call)
    if created is None:
        with refusing(call):
            plan = await _plan(call)
            created = await call.context.service(CampaignService).create(plan, id_of(call))
    call.headers["Location"] = f"/v1/campaigns/{created.id}"
    return created


def id_of(call: HttpCall) -> str | None:
    """The id of the campaign that this request makes; None without an ``Idempotency-Key``."""
    return None if call.once is None else str(uuid.UUID(call.once))


async def _made_before(call: HttpCall) -> CampaignStatus | None:
    """The campaign that this request made before its answer was lost."""
    if (campaign := id_of(call)) is None:
        return None
    async with asking_campaigns(call.context) as campaigns:
        with suppress(CampaignNotFound):
            return await campaigns.status(campaign)
    return None


@ROUTES(
    "POST /v1/campaign-previews",
    CampaignPreview,
    scope="campaigns:write",
    body=_UPLOAD,
    description=f"Nothing is stored.\n\n{_FILES}",
)
async def preview_plan(call: HttpCall) -> CampaignPreview:
    """Check a campaign that is not stored."""
    with refusing(call):
        plan = await _plan(call)
        return await call.context.service(CampaignService).preview(plan)


@ROUTES(
    "GET /v1/campaigns",
    CampaignPage,
    scope="campaigns:read",
    query=paging.query_of(CampaignFilter, CampaignPaging),
)
async def list_campaigns(call: HttpCall) -> BaseModel:
    """List the campaigns, latest first, without what is written of drafts.

    With the scope `campaigns:approve` also those of other senders that were submitted for approval.
    """
    asked: CampaignPaging = call.query
    chosen = CampaignFilter(**call.key.sees, **asked.filters())
    async with asking_campaigns(call.context) as campaigns:
        found = await campaigns.list(
            chosen,
            after=asked.cursor,
            limit=asked.limit,
            submitted=call.key.permits(APPROVING),
        )
    following = paging.behind(found, asked.limit, "created_at", "id")
    return CampaignPage(campaigns=list(found), next=following)


@_read("GET /v1/campaigns/{id}", CampaignStatus)
async def get_campaign(call: HttpCall) -> CampaignStatus:
    """How a campaign stands."""
    async with found_campaign(call) as (campaigns, campaign):
        return await campaigns.show(campaign.id)


@_read("GET /v1/campaigns/{id}/preview", CampaignPreview, problems=frozenset({404, 422}))
async def preview_campaign(call: HttpCall) -> CampaignPreview:
    """Check a campaign: its cost, and the people that it would not reach.

    It only reads. What a draft lacks as a campaign is named.
    """
    async with found_campaign(call) as (campaigns, campaign):
        pass
    with refusing(call):
        return await campaigns.preview(campaign.id)


@_read("GET /v1/campaigns/{id}/report", CampaignReport)
async def report_campaign(call: HttpCall) -> CampaignReport:
    """Outcomes of a campaign's people."""
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        return await campaigns.report(campaign.id)


class PeopleQuery(paging.Query):
    """Filter of a campaign's people."""

    outcome: CampaignSought | None = None
    """Only people with this outcome."""


class PeoplePaging(paging.Paging, PeopleQuery):
    """Page of a campaign's people."""

    cursor: Annotated[Any, paging.Behind(int, int)] = None


@_read("GET /v1/campaigns/{id}/people", CampaignPeople, query=PeoplePaging)
async def list_people_of_campaign(call: HttpCall) -> CampaignPeople:
    """The people of a campaign one by one, with what became of them.

    Names, numbers and departments need the scope `directory:read`, and are empty without it.
    """
    asked: PeoplePaging = call.query
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        found, last = await campaigns.people(
            campaign.id, asked.outcome, behind=asked.cursor, limit=asked.limit
        )
    people = list(found)
    if not call.key.permits(PERSONAL):
        people = [each.model_copy(update=UNNAMED) if each.userid else each for each in people]
    return CampaignPeople(people=people, next=paging.encode(*last) if last else None)


@_read(
    "GET /v1/campaigns/{id}/people.csv",
    RouteAnswer(
        description="A line a person, under a header.",
        model={"type": "string"},
        media_type="text/csv",
    ),
    query=PeopleQuery,
)
async def export_people_of_campaign(call: HttpCall) -> web.StreamResponse:
    """The people of a campaign as CSV, for a spreadsheet.

    In the language of `Accept-Language`; see `listPeopleOfCampaign`.
    """
    async with found_campaign(call) as (campaigns, campaign):
        pages = campaigns.results(campaign.id, call.query.outcome)
    response = web.StreamResponse(headers={"Content-Type": "text/csv; charset=utf-8"})
    await response.prepare(call.request)
    if not call.key.permits(PERSONAL):
        pages = (
            [each._replace(**UNNAMED) if each.userid else each for each in page]
            async for page in pages
        )
    with spoken(wanted_language(call.request)):
        async for lines in people_csv(pages):
            await response.write(lines)
    await response.write_eof()
    return response


def _moving(verb: Verb, what: str) -> None:
    """Declare the route that moves a campaign to another state."""

    async def handle(call: HttpCall) -> CampaignStatus:
        async with found_campaign(call, changed=True) as (campaigns, campaign):
            await campaigns.move(campaign.id, verb)
            return await campaigns.status(campaign.id)

    _change(
        f"POST /v1/campaigns/{{id}}/{verb}",
        CampaignStatus,
        operation=f"{verb}Campaign",
        summary=what,
        description="Asking for the state that it is in changes nothing.",
    )(handle)


@_change(
    "POST /v1/campaigns/{id}/start",
    CampaignStatus,
    body=Body(model=StartRequest, required=False),
)
async def start_campaign(call: HttpCall) -> CampaignStatus:
    """Let a campaign run that is ready.

    With its `version`, what was read is started, and no later text. Asking for the state that it is in changes nothing.
    """
    asked = StartRequest.parse(call.body, strict=True)
    async with found_campaign(call, changed=True) as (campaigns, campaign):
        await campaigns.move(campaign.id, "start", asked.version)
        return await campaigns.status(campaign.id)


_moving("pause", "Hold a campaign")
_moving("resume", "Let a paused campaign run on")
_moving("cancel", "End a campaign for good")


@_change("DELETE /v1/campaigns/{id}", {204: RouteAnswer(description="The campaign is deleted.")})
async def delete_campaign(call: HttpCall) -> None:
    """Delete a draft, or a campaign that has ended.

    It is gone at once; the workers delete its people, page by page.
    """
    async with found_campaign(call, changed=True) as (campaigns, campaign):
        await campaigns.delete(campaign.id, wait=False)


@_change(
    "POST /v1/campaigns/{id}/test",
    {202: RouteAnswer(description="The job that sends it.", model=JobStatus)},
    body=Body(model=TestRequest),
)
async def test_campaign(call: HttpCall) -> web.Response:
    """Send a campaign's message to testers, now.

    Testers are its writers and the reviewers, five in all. Its title and text begin with 【测试】, so a tester who is a
    recipient gets the real one, too; a picture, a file or a voice message can't be marked: it goes to the key's owner only,
    who is left out of the campaign that day.
    """
    asked = TestRequest.parse(call.body, strict=True)
    async with found_campaign(call, changed=True) as (campaigns, campaign):
        job = await campaigns.test(campaign.id, asked.users, asked.fields, call.once)
    lane = next(lane for lane in LANES if call.key.permits_lane(lane))
    job = _signed(call, job.model_copy(update={"lane": lane}))
    draft = record.draft(job, key=call.once)
    [answer] = await call.context.records.enqueue([draft])
    if answer.conflict:
        raise key_conflict()
    found = accepted(draft, answer) or await call.context.records.status(draft.id)
    return job_response(found, code=202)


@_change(
    "POST /v1/campaigns/{id}/recall",
    {202: RouteAnswer(description="The jobs that do it.", model=JobsDocument)},
)
async def recall_campaign(call: HttpCall) -> JobsDocument:
    """Take back what a campaign sent in the last 24 hours.

    One call for each of its calls. It must not run.
    """
    async with found_campaign(call, within=COUNTING, changed=True) as (campaigns, campaign):
        plan = await campaigns.recall(campaign.id)
        await campaigns.note(campaign.id, "recall", plan)
    return await _enqueued(call, plan.jobs)


@_change(
    "POST /v1/campaigns/{id}/confirm",
    {202: RouteAnswer(description="The jobs that ask.", model=JobsDocument)},
    body=Body(model=ConfirmRequest, required=False),
)
async def confirm_campaign(call: HttpCall) -> JobsDocument:
    """Ask DingTalk which people a campaign reached.

    Two calls for each that is asked about. The report shows the answer.
    """
    asked = ConfirmRequest.parse(call.body, strict=True)
    async with found_campaign(call, within=COUNTING, changed=True) as (campaigns, campaign):
        plan = await campaigns.confirm(campaign.id, sample=asked.sample)
        await campaigns.note(campaign.id, "confirm", plan)
    return await _enqueued(call, plan.jobs)


@_read("GET /v1/campaigns/{id}/recall", FollowUpCost, problems=frozenset({404, 409}))
async def preview_recall(call: HttpCall) -> FollowUpCost:
    """Reach and cost of a recall."""
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        return await campaigns.recall(campaign.id)


@_read("GET /v1/campaigns/{id}/confirm", FollowUpCost)
async def preview_confirm(call: HttpCall) -> FollowUpCost:
    """Reach and cost of a delivery query."""
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        return await campaigns.confirm(campaign.id, sample=None)


@_read("GET /v1/campaigns/{id}/review", CampaignReview)
async def get_review(call: HttpCall) -> CampaignReview:
    """How the approval of a campaign stands."""
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        return await campaigns.review(campaign.id)


@_change("POST /v1/campaigns/{id}/review", CampaignReview)
async def request_review(call: HttpCall) -> CampaignReview:
    """Submit a campaign that is ready for the approval of a second person.

    The reviewers of the settings get a link to it. Any change of the campaign voids the approval.
    """
    async with found_campaign(call, within=COUNTING, changed=True) as (campaigns, campaign):
        job = await campaigns.request_review(campaign.id)
        if job is not None:
            await call.context.records.enqueue([record.draft(job)])
        return await campaigns.review(campaign.id)


@_decide(
    "POST /v1/campaigns/{id}/approve",
    CampaignReview,
    body=Body(model=ApproveRequest, required=False),
)
async def approve_campaign(call: HttpCall) -> CampaignReview:
    """Approve a campaign that another key or person wrote and submitted.

    With its `version`, an approval of one text can't become that of a later one.
    """
    asked = ApproveRequest.parse(call.body, strict=True)
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        await campaigns.approve(campaign.id, asked.version)
        return await campaigns.review(campaign.id)


@_decide("POST /v1/campaigns/{id}/reject", CampaignReview, body=Body(model=RejectRequest))
async def reject_campaign(call: HttpCall) -> CampaignReview:
    """Reject a campaign that was submitted; it does not start."""
    asked = RejectRequest.parse(call.body, strict=True)
    async with found_campaign(call, within=COUNTING) as (campaigns, campaign):
        await campaigns.reject(campaign.id, asked.reason, asked.version)
        return await campaigns.review(campaign.id)


@asynccontextmanager
async def asking_campaigns(
    context: GatewayContext, *, within: float = TIMEOUT
) -> AsyncGenerator[CampaignService]:
    """The campaigns, for so many seconds.

    Raises:
        ServiceUnavailable: the database or Redis does not answer in time.
    """
    try:
        async with asyncio.timeout(within):
            yield context.service(CampaignService)
    except TimeoutError:
        raise ServiceUnavailable("the database or Redis does not answer") from None


@asynccontextmanager
async def found_campaign(
    call: HttpCall, *, within: float | None = None, changed: bool = False
) -> AsyncGenerator[tuple[CampaignService, CampaignStatus]]:
    """The campaigns, for so many seconds, and the one that the path names.

    Raises:
        CampaignNotFound: there is none, or the key may not see it; the answer does not reveal which.
        Problem: it is to be changed, and the key is not for campaigns.
        ServiceUnavailable: as `asking_campaigns`.
    """
    async with asking_campaigns(call.context, within=within or TIMEOUT) as campaigns:
        found = await campaigns.status(call.path("id"))
        seen = may_see(call.key, sender=found.sender, app=found.app)
        if not seen and (changed or not await _reviews(call.key, campaigns, found)):
            raise CampaignNotFound(found.id)
        if changed:
            check_lane(call.key)
        yield campaigns, found


async def _reviews(key: Grant, campaigns: CampaignService, found: CampaignStatus) -> bool:
    """Whether a campaign of another sender was submitted for approval, and the key may approve."""
    if not (key.permits(APPROVING) and key.permits_app(found.app)):
        return False
    return bool(await campaigns.reviews([found.id]))


async def _enqueued(call: HttpCall, jobs: Sequence[Contract]) -> JobsDocument:
    drafts = [record.draft(_signed(call, job)) for job in jobs]
    if drafts:
        await call.context.records.enqueue(drafts)
    return JobsDocument(jobs=len(drafts), ids=[draft.id for draft in drafts[:NAMED_IDS]])


def _signed(call: HttpCall, job: Contract) -> Contract:
    """The job with a sender, and in a lane that the key may take: bulk at least."""
    return job.model_copy(
        update={
            "sender": job.sender or call.context.sender_of(call.key),
            "lane": job.lane if call.key.permits_lane(job.lane) else "bulk",
        }
    )


@contextmanager
def refusing(call: HttpCall) -> Generator[None]:
    """Around what is done with a request that says what a campaign is to be.

    Raises:
        Problem: it is wrong, with its fields or lines.
    """
    try:
        yield
    except MalformedRecipients as error:
        raise _malformed(error) from None
    except ContractError as error:
        raise _invalid(error, call.body) from None


async def _plan(call: HttpCall) -> Plan:
    """The plan that the request asks for.

    Raises:
        ContractError: it is wrong; it names the field.
        Problem: the key may not do it.
    """
    assert call.upload is not None
    files = call.upload.files
    asked = CampaignRequest.parse(call.body, strict=True)
    recipients = files.get(upload.RECIPIENTS)
    _check_people(asked, recipients)
    sender = permitted_sender(call, asked)
    async with asking_campaigns(call.context) as campaigns:
        await check_left_out(campaigns, call.key, asked.without_campaigns)
    return asked.plan(sender=sender, recipients=recipients, without=files.get(upload.WITHOUT))


async def check_left_out(service: CampaignService, grant: Grant, campaigns: Sequence[str]) -> None:
    """Refuse campaigns whose people are to be left out, where the key or the person may not see them.

    Raises:
        ContractError: names the first of them.
    """
    for at, campaign in enumerate(campaigns):
        found = None
        with suppress(CampaignNotFound):
            found = await service.status(campaign)
        if found is None or not may_see(grant, sender=found.sender, app=found.app):
            raise ContractError(f"without_campaigns.{at}", "there is no such campaign")


def _check_people(asked: CampaignRequest, recipients: BinaryIO | None) -> None:
    if recipients and asked.recipients:
        raise ContractError("recipients", "come as a file, or as a field: not both")
    if not recipients and not asked.names_people:
        raise ContractError("recipients", "name recipients: in a file, or in a field")


def permitted_sender(call: HttpCall, asked: CampaignFields) -> str:
    """The sender of a campaign.

    Raises:
        Problem: the key is not for this app, lane or sender (403).
    """
    check_app(call.key, asked.app)
    check_lane(call.key)
    if asked.sender and not call.key.permits_sender(asked.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")
    return asked.sender or call.context.sender_of(call.key)


def check_lane(key: ApiKey) -> None:
    """Refuse a key that is not for the lane of campaigns.

    Raises:
        Problem: it is not (403).
    """
    if not key.permits_lane("bulk"):
        detail = "campaigns go in the lane bulk, for which the key is not"
        raise Problem(problems.FORBIDDEN, detail)


def _malformed(error: MalformedRecipients) -> Problem:
    """The rows that name no person, with their lines, as the command line shows them."""
    rows = [
        FieldError(pointer=_part(error.field), detail=row.problem, line=row.line or None)
        for row in error.first
    ]
    problem = en("1 row is malformed")
    if error.count > 1:
        problem = en("{} rows are malformed", error.count)
    if error.count > len(rows):
        problem += en(", of which the first {} are listed", len(rows))
    return Problem(problems.INVALID, problem, errors=rows)


def _invalid(error: ContractError, fields: object) -> Problem:
    """A refusal of the campaign, or of a file as a whole."""
    line = error.field.removeprefix("line ")
    if line != error.field and line.isdecimal():
        place = FieldError(pointer=_part("recipients"), detail=error.problem, line=int(line))
        return Problem(problems.INVALID, en("{}: {}", error.field, error.problem), errors=[place])
    if error.field == "exclusions":
        return Problem.at(problems.INVALID, _part(error.field), error.problem)
    return problems.invalid(error, fields)


def _part(name: str) -> str:
    return {"exclusions": f"/{upload.WITHOUT}"}.get(name, f"/{name}")
