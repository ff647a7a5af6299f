"""``/v1/campaigns``: broadcasts over HTTP, each verb of the command line."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
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
from dingrelay_producers.client.verbs import Verb
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import spoken
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import upload
from dingrelay_workers.campaigns.documents import (
    UPLOAD_SCHEMA,
    CampaignRequest,
    FollowUpCost,
    JobsDocument,
)
from dingrelay_workers.campaigns.reach import READ, WRITE
from dingrelay_workers.campaigns.report import CampaignPeople, CampaignReport
from dingrelay_workers.campaigns.result_table import people_csv
from dingrelay_workers.campaigns.review import CampaignReview
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.upload import FORM, arrived
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.csv_answer import send_csv
from dingrelay_workers.http.job_routes import job_response
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
from dingrelay_workers.http.verb_routes import VerbRoutes

TIMEOUT = 1.8
"""Seconds for the database; after that it counts as away."""
COUNTING = 20.0
"""Seconds for what counts over all of a campaign's people."""
FREEZING = 3_600.0
"""Seconds for what writes all of them: a million takes minutes."""

CampaignPage = paging.page_of(
    "CampaignPage", "Some campaigns, latest first.", campaigns=CampaignStatus
)

ROUTES = Routes(tag="campaigns")
ONE = {"id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}}
_read = partial(ROUTES, path_parameters=ONE, scope=READ)

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
    scope=WRITE,
    body=_UPLOAD,
    description=f"Nothing is sent before it is started.\n\n{_FILES}",
    links={201: links("getCampaign", "startCampaign", "cancelCampaign", "reportCampaign")},
)
async def create_campaign(call: HttpCall) -> CampaignStatus:
    """Make a campaign with its recipients that is ready."""
    with refusing(call):
        created = await call.context.service(CampaignService).create(_plan(call))
    call.headers["Location"] = f"/v1/campaigns/{created.id}"
    return created


@ROUTES(
    "POST /v1/campaign-previews",
    CampaignPreview,
    scope=WRITE,
    body=_UPLOAD,
    description=f"Nothing is stored.\n\n{_FILES}",
)
async def preview_plan(call: HttpCall) -> CampaignPreview:
    """Check a campaign that is not stored."""
    with refusing(call):
        return await call.context.service(CampaignService).preview(_plan(call))


@ROUTES(
    "GET /v1/campaigns",
    CampaignPage,
    scope=READ,
    query=paging.query_of(CampaignFilter, CampaignPaging),
)
async def list_campaigns(call: HttpCall) -> BaseModel:
    """List the campaigns, latest first, without what is written of drafts.

    With the scope `campaigns:approve` also those of other senders that were submitted for approval.
    """
    query: CampaignPaging = call.query
    async with asking_campaigns(call.context) as campaigns:
        listed = await campaigns.list(
            CampaignFilter(**query.filters()), after=query.cursor, limit=query.limit
        )
    following = paging.behind(listed, query.limit, "created_at", "id")
    return CampaignPage(campaigns=list(listed), next=following)


@_read("GET /v1/campaigns/{id}", CampaignStatus)
async def get_campaign(call: HttpCall) -> CampaignStatus:
    """How a campaign stands."""
    async with asking_campaigns(call.context) as campaigns:
        return await campaigns.show(call.path("id"))


@_read("GET /v1/campaigns/{id}/preview", CampaignPreview, problems=frozenset({404, 422}))
async def preview_campaign(call: HttpCall) -> CampaignPreview:
    """Check a campaign: its cost, and the people that it would not reach.

    It only reads. What a draft lacks as a campaign is named.
    """
    with refusing(call):
        return await call.context.service(CampaignService).preview(call.path("id"))


@_read("GET /v1/campaigns/{id}/report", CampaignReport)
async def report_campaign(call: HttpCall) -> CampaignReport:
    """Outcomes of a campaign's people."""
    async with asking_campaigns(call.context, within=COUNTING) as campaigns:
        return await campaigns.report(call.path("id"))


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
    query: PeoplePaging = call.query
    async with asking_campaigns(call.context, within=COUNTING) as campaigns:
        page, last = await campaigns.people(
            call.path("id"), query.outcome, behind=query.cursor, limit=query.limit
        )
    return CampaignPeople(people=list(page), next=paging.encode(*last) if last else None)


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
    async with asking_campaigns(call.context) as campaigns:
        campaign = await campaigns.status(call.path("id"))
        pages = campaigns.export(campaign.id, call.query.outcome)
    with spoken(wanted_language(call.request)):
        return await send_csv(call.request, people_csv(pages))


@_read("GET /v1/campaigns/{id}/recall", FollowUpCost, problems=frozenset({404, 409}))
async def preview_recall(call: HttpCall) -> FollowUpCost:
    """Reach and cost of a recall."""
    async with asking_campaigns(call.context, within=COUNTING) as campaigns:
        return await campaigns.plan_recall(call.path("id"))


@_read("GET /v1/campaigns/{id}/confirm", FollowUpCost)
async def preview_confirm(call: HttpCall) -> FollowUpCost:
    """Reach and cost of a delivery query."""
    async with asking_campaigns(call.context, within=COUNTING) as campaigns:
        return await campaigns.plan_confirm(call.path("id"))


@_read("GET /v1/campaigns/{id}/review", CampaignReview)
async def get_review(call: HttpCall) -> CampaignReview:
    """How the approval of a campaign stands."""
    async with asking_campaigns(call.context, within=COUNTING) as campaigns:
        return await campaigns.review(call.path("id"))


@asynccontextmanager
async def asking_campaigns(
    context: GatewayContext, *, within: float | None = None
) -> AsyncGenerator[CampaignService]:
    """The campaigns, for so many seconds.

    Raises:
        ServiceUnavailable: the database or Redis does not answer in time.
    """
    try:
        async with asyncio.timeout(within or TIMEOUT):
            yield context.service(CampaignService)
    except TimeoutError:
        raise ServiceUnavailable("the database or Redis does not answer") from None


async def carry_out(call: HttpCall, noun: type, verb: Verb, arguments: tuple[Any, ...]) -> Any:
    """Run the body of a verb of campaigns, which may take some seconds."""
    body = getattr(call.context.service(noun), verb.name)
    with refusing(call):
        async with asking_campaigns(call.context, within=_SECONDS.get(verb.name)):
            document = await body(*arguments)
    return job_response(call, document, code=202) if isinstance(document, JobStatus) else document


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


def _plan(call: HttpCall) -> Plan:
    """The plan that the request asks for.

    Raises:
        ContractError: it is wrong; it names the field.
    """
    assert call.upload is not None
    files = call.upload.files
    request = CampaignRequest.parse(call.body, strict=True)
    recipients = files.get(upload.RECIPIENTS)
    _check_people(request, recipients)
    return request.plan(recipients=recipients, without=files.get(upload.WITHOUT))


def _check_people(asked: CampaignRequest, recipients: BinaryIO | None) -> None:
    if recipients and asked.recipients:
        raise ContractError("recipients", "come as a file, or as a field: not both")
    if not recipients and not asked.names_people:
        raise ContractError("recipients", "name recipients: in a file, or in a field")


def _malformed(error: MalformedRecipients) -> Problem:
    """The rows that name no person, with their lines, as the command line shows them."""
    rows = [
        FieldError(pointer=_part(error.field), detail=row.problem, line=row.line or None)
        for row in error.first
    ]
    problem = error.counts
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


_COUNT = "recall", "confirm", "submit", "approve", "reject", "save", "copy"
_SECONDS = {**dict.fromkeys(_COUNT, COUNTING), "freeze": FREEZING}
"""Verb → seconds that it may take, where it looks at all people of a campaign, or writes them."""
VERBS = VerbRoutes(
    CampaignService,
    {
        JobsDocument: {202: RouteAnswer(description="The jobs that do it.", model=JobsDocument)},
        JobStatus: {202: RouteAnswer(description="The job that sends it.", model=JobStatus)},
    },
    carry_out,
    fields={"path_parameters": ONE, "problems": frozenset({404, 409})},
)
VERBS.declare(ROUTES)
