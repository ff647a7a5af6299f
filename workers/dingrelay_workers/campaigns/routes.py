"""``/v1/campaigns``: broadcasts over HTTP, each verb of the command line."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Annotated, BinaryIO

from aiohttp import web
from pydantic import BaseModel, Field

from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    CreatedCampaign,
    MalformedRecipients,
    Plan,
)
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.errors import CampaignNotFound, ServiceUnavailable
from dingrelay_producers.store import record
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import LANES, Contract, ContractError
from dingrelay_workers.campaigns import upload
from dingrelay_workers.campaigns.documents import (
    UPLOAD_SCHEMA,
    CampaignPage,
    CampaignRequest,
    ConfirmRequest,
    JobsDocument,
    TestRequest,
)
from dingrelay_workers.campaigns.report import CampaignReport
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.upload import FORM, CampaignWriter, arrived
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.authentication import may_see
from dingrelay_workers.http.context import GatewayContext
from dingrelay_workers.http.job_routes import accepted, job_response, used_before
from dingrelay_workers.http.problems import FieldError, Problem, json_response
from dingrelay_workers.http.routes import Body, Handler, HttpCall, Route, RouteAnswer, links

PATIENCE = 1.8
"""Seconds for the database; after that it counts as away."""
COUNTING = 20.0
"""Seconds for what counts over all of a campaign's people."""

NAMED_IDS = 100
"""Ids of accepted jobs in an answer."""


def _after(cursor: str) -> tuple[datetime, str]:
    at, campaign = paging.decode(cursor, datetime, str)
    return at, campaign


class CampaignPaging(paging.Paging):
    """Which part of a list of campaigns."""

    cursor: Annotated[str, Field(max_length=1_000), paging.checked(_after)] | None = None
    """`next` of the page before."""


CampaignQuery = paging.query_of(CampaignFilter, CampaignPaging)


async def create_campaign(call: HttpCall) -> web.StreamResponse:
    """Store a draft with its recipients."""
    created = await _made_before(call)
    if created is None:
        with _refusing(call) as plan:
            created = await call.context.service(CampaignWriter).create(plan, _id_of(call))
    return _answer(created, status=201, headers={"Location": f"/v1/campaigns/{created.id}"})


def _id_of(call: HttpCall) -> str | None:
    """The id of the campaign that this request makes; None without an ``Idempotency-Key``."""
    return None if call.once is None else str(uuid.UUID(call.once))


async def _made_before(call: HttpCall) -> CreatedCampaign | None:
    """The draft that this request made before its answer was lost."""
    if (campaign := _id_of(call)) is None:
        return None
    async with _asking(call.context) as campaigns:
        with suppress(CampaignNotFound):
            return CreatedCampaign.model_validate(await campaigns.status(campaign))
    return None


async def preview_plan(call: HttpCall) -> web.StreamResponse:
    """What a campaign would take; nothing is stored."""
    with _refusing(call) as plan:
        found = await call.context.service(CampaignWriter).preview(plan)
    return _answer(found)


async def list_campaigns(call: HttpCall) -> web.StreamResponse:
    """The campaigns that the key may see, latest first."""
    asked: CampaignPaging = call.query
    chosen = CampaignFilter(
        apps=None if ANY in call.key.apps else call.key.apps,
        sender=None if call.key.sender == ANY else call.key.sender,
        **asked.filters(),
    )

    async with _asking(call.context) as campaigns:
        found = await campaigns.list(
            chosen,
            after=_after(asked.cursor) if asked.cursor else None,
            limit=asked.limit,
        )
    last = found[-1] if len(found) == asked.limit else None
    page = CampaignPage(
        campaigns=list(found),
        next=paging.encode(last.created_at, last.id) if last else None,
    )
    return _answer(page)


async def get_campaign(call: HttpCall) -> web.StreamResponse:
    """How a campaign stands."""
    return _answer(await _found(call))


async def preview_campaign(call: HttpCall) -> web.StreamResponse:
    """What a stored campaign will take."""
    status = await _found(call)
    async with _asking(call.context) as campaigns:
        return _answer(await campaigns.preview(status.id))


async def report_campaign(call: HttpCall) -> web.StreamResponse:
    """What became of its people."""
    status = await _found(call)
    async with _asking(call.context, within=COUNTING) as campaigns:
        return _answer(await campaigns.report(status.id))


async def delete_campaign(call: HttpCall) -> web.StreamResponse:
    """Delete one that has ended; the fleet deletes its rows."""
    status = await _found(call)
    _check_lane(call.key)
    async with _asking(call.context) as campaigns:
        await campaigns.delete(status.id, wait=False)
    return web.Response(status=204)


async def test_campaign(call: HttpCall) -> web.StreamResponse:
    """Send its message to testers."""
    asked = TestRequest.parse(call.body, strict=True)
    status = await _found(call)
    _check_lane(call.key)
    async with _asking(call.context) as campaigns:
        job = await campaigns.test(status.id, asked.users, asked.fields)
    lane = next(lane for lane in LANES if call.key.permits_lane(lane))
    job = _signed(call, job.model_copy(update={"lane": lane}))
    draft = record.draft(job, key=call.once)
    [answer] = await call.context.records.enqueue([draft])
    if answer.conflict:
        raise used_before()
    found = accepted(draft, answer) or await call.context.records.status(draft.id)
    return job_response(found, code=202)


async def recall_campaign(call: HttpCall) -> web.StreamResponse:
    """Take back what was sent in the last 24 hours."""
    status = await _found(call)
    _check_lane(call.key)
    async with _asking(call.context, within=COUNTING) as campaigns:
        plan = await campaigns.recall(status.id)
    return await _enqueued(call, plan.jobs)


async def confirm_campaign(call: HttpCall) -> web.StreamResponse:
    """Ask DingTalk which people it reached."""
    asked = ConfirmRequest.parse(call.body, strict=True)
    status = await _found(call)
    _check_lane(call.key)
    async with _asking(call.context, within=COUNTING) as campaigns:
        plan = await campaigns.confirm(status.id, sample=asked.sample)
    return await _enqueued(call, plan.jobs)


def moving(
    move: Callable[[CampaignService, str], Awaitable[None]],
) -> Callable[..., Awaitable[web.Response]]:
    """A handler that moves a campaign to another state."""

    async def handle(call: HttpCall) -> web.Response:
        status = await _found(call)
        _check_lane(call.key)
        async with _asking(call.context) as campaigns:
            await move(campaigns, status.id)
        return _answer(await _found(call))

    return handle


async def _found(call: HttpCall) -> CampaignStatus:
    """The campaign that the path names.

    Raises:
        CampaignNotFound: there is none, or the key may not see it; the answer does not reveal which.
    """
    campaign = call.path("id")
    async with _asking(call.context) as campaigns:
        status = await campaigns.status(campaign)
    if not may_see(call.key, sender=status.sender, app=status.app):
        raise CampaignNotFound(campaign)
    return status


@contextmanager
def _refusing(call: HttpCall) -> Generator[Plan]:
    """The plan that the request asks for, and around what is done with it.

    Raises:
        Problem: it is wrong, with its fields or lines, or the key may not do it.
    """
    assert call.upload is not None
    files = call.upload.files
    try:
        asked = CampaignRequest.parse(call.body, strict=True)
        recipients = files.get(upload.RECIPIENTS)
        _check_people(asked, recipients)
        sender = _permitted(call, asked)
        yield asked.plan(sender=sender, recipients=recipients, without=files.get(upload.WITHOUT))
    except MalformedRecipients as error:
        raise _malformed(error) from None
    except ContractError as error:
        raise _invalid(error, call.body) from None


def _check_people(asked: CampaignRequest, recipients: BinaryIO | None) -> None:
    if recipients and asked.recipients:
        raise ContractError("recipients", "come as a file, or as a field: not both")
    if not recipients and not asked.names_people:
        raise ContractError("recipients", "name somebody: in a file, or in a field")


def _permitted(call: HttpCall, asked: CampaignRequest) -> str:
    """The campaign's sender.

    Raises:
        Problem: the key is not for this app, lane or sender (403).
    """
    if not call.key.permits_app(asked.app):
        raise Problem.at(problems.FORBIDDEN, "/app", "the key is not for this app")
    _check_lane(call.key)
    if asked.sender and not call.key.permits_sender(asked.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")
    return asked.sender or call.context.sender_of(call.key)


def _check_lane(key: ApiKey) -> None:
    if not key.permits_lane("bulk"):
        detail = "campaigns go in the lane bulk, for which the key is not"
        raise Problem(problems.FORBIDDEN, detail)


def _malformed(error: MalformedRecipients) -> Problem:
    """The rows that name no person, with their lines, as the command line shows them."""
    rows = [
        FieldError(pointer=_part(error.field), detail=_text(row.problem), line=row.line or None)
        for row in error.first
    ]
    problem = "1 row is malformed" if error.count == 1 else f"{error.count} rows are malformed"
    if error.count > len(rows):
        problem += f", of which the first {len(rows)} are listed"
    return Problem(problems.INVALID, problem, errors=rows)


def _invalid(error: ContractError, fields: object) -> Problem:
    """A refusal of the campaign, or of a file as a whole."""
    line = error.field.removeprefix("line ")
    if line != error.field and line.isdecimal():
        place = FieldError(pointer=_part("recipients"), detail=_text(error.problem), line=int(line))
        return Problem(problems.INVALID, f"{error.field}: {_text(error.problem)}", errors=[place])
    if error.field == "exclusions":
        return Problem.at(problems.INVALID, _part(error.field), _text(error.problem))
    return problems.invalid(error, fields)


def _part(name: str) -> str:
    return {"exclusions": f"/{upload.WITHOUT}"}.get(name, f"/{name}")


def _text(problem: str) -> str:
    # A row may quote what can't be written as UTF-8; the answer must be.
    return problem.encode("utf-8", "backslashreplace").decode()


def _signed(call: HttpCall, job: Contract) -> Contract:
    """The job with a sender, and in a lane that the key may take: bulk at least."""
    return job.model_copy(
        update={
            "sender": job.sender or call.context.sender_of(call.key),
            "lane": job.lane if call.key.permits_lane(job.lane) else "bulk",
        }
    )


async def _enqueued(call: HttpCall, jobs: Sequence[Contract]) -> web.Response:
    drafts = [record.draft(_signed(call, job)) for job in jobs]
    if drafts:
        await call.context.records.enqueue(drafts)
    document = JobsDocument(jobs=len(drafts), ids=[draft.id for draft in drafts[:NAMED_IDS]])
    return _answer(document, status=202)


@asynccontextmanager
async def _asking(
    context: GatewayContext, *, within: float = PATIENCE
) -> AsyncGenerator[CampaignService]:
    """The campaigns, for so many seconds.

    Raises:
        ServiceUnavailable: the database or Redis does not answer in time.
    """
    try:
        async with asyncio.timeout(within), context.service(CampaignWriter).places:
            yield context.service(CampaignService)
    except TimeoutError:
        raise ServiceUnavailable("the database or Redis does not answer") from None


def _answer(
    document: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return json_response(document.model_dump(mode="json"), status=status, headers=headers)


_UPLOAD = Body(model=CampaignRequest, others={FORM: UPLOAD_SCHEMA}, limit=None, reader=arrived)

_FILES = """\
The body is JSON, or a form (`multipart/form-data`) with the same JSON in the part `campaign` and \
files of any length in the parts `recipients` and `without`: CSV with a column `userid` under a \
header, or one JSON object a line, in UTF-8 or GB18030.

Rows that name nobody are refused with their lines, and nothing is created, unless `malformed` is \
`skip`."""

_ID = {"id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}}
_LINKS = links("getCampaign", "startCampaign", "cancelCampaign", "reportCampaign")

_route = partial(Route, tag="campaigns")
_of_one = partial(_route, path_parameters=_ID)
_change = partial(_of_one, scope="campaigns:write", problems=frozenset({404, 409}))


def _moving(verb: str, handler: Handler, summary: str) -> Route:
    return _change(
        method="POST",
        path=f"/v1/campaigns/{{id}}/{verb}",
        handler=handler,
        operation=f"{verb}Campaign",
        summary=summary,
        description="Asking for the state that it is in changes nothing.",
        answers={200: RouteAnswer(description="How it stands now.", model=CampaignStatus)},
    )


ROUTES = (
    _route(
        method="POST",
        path="/v1/campaigns",
        handler=create_campaign,
        operation="createCampaign",
        summary="Make a draft of a campaign with its recipients",
        description=f"Nothing is sent before it is started.\n\n{_FILES}",
        scope="campaigns:write",
        body=_UPLOAD,
        answers={
            201: RouteAnswer(
                description="The draft.",
                model=CreatedCampaign,
                headers={"Location": "Where the campaign can be looked at."},
            )
        },
        links={201: _LINKS},
    ),
    _route(
        method="POST",
        path="/v1/campaign-previews",
        handler=preview_plan,
        operation="previewPlan",
        summary="What a campaign would take",
        description=f"Nothing is stored.\n\n{_FILES}",
        scope="campaigns:write",
        body=_UPLOAD,
        answers={200: RouteAnswer(description="What it would take.", model=CampaignPreview)},
    ),
    _route(
        method="GET",
        path="/v1/campaigns",
        handler=list_campaigns,
        operation="listCampaigns",
        summary="List the campaigns, latest first",
        scope="campaigns:read",
        query=CampaignQuery,
        answers={200: RouteAnswer(description="Some of them.", model=CampaignPage)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}",
        handler=get_campaign,
        operation="getCampaign",
        summary="How a campaign stands",
        scope="campaigns:read",
        answers={200: RouteAnswer(description="The campaign.", model=CampaignStatus)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}/preview",
        handler=preview_campaign,
        operation="previewCampaign",
        summary="What a stored campaign will take as a whole",
        scope="campaigns:read",
        answers={200: RouteAnswer(description="What it will take.", model=CampaignPreview)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}/report",
        handler=report_campaign,
        operation="reportCampaign",
        summary="What became of a campaign's people",
        scope="campaigns:read",
        answers={200: RouteAnswer(description="The report.", model=CampaignReport)},
    ),
    _moving("start", moving(CampaignService.start), "Let a draft run"),
    _moving("pause", moving(CampaignService.pause), "Hold a campaign"),
    _moving(
        "resume",
        moving(CampaignService.resume),
        "Let a paused campaign run on",
    ),
    _moving(
        "cancel",
        moving(CampaignService.cancel),
        "End a campaign for good",
    ),
    _change(
        method="DELETE",
        path="/v1/campaigns/{id}",
        handler=delete_campaign,
        operation="deleteCampaign",
        summary="Delete a campaign that has ended",
        description="Nobody sees it any more; the workers delete its people, page by page.",
        answers={204: RouteAnswer(description="The campaign is deleted.")},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/test",
        handler=test_campaign,
        operation="testCampaign",
        summary="Send a campaign's message to testers, now",
        description="A tester who is a recipient, too, is left out of the campaign that day.",
        body=Body(model=TestRequest),
        answers={202: RouteAnswer(description="The job that sends it.", model=JobStatus)},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/recall",
        handler=recall_campaign,
        operation="recallCampaign",
        summary="Take back what a campaign sent in the last 24 hours",
        description="One call for each of its calls. It must not run.",
        answers={202: RouteAnswer(description="The jobs that do it.", model=JobsDocument)},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/confirm",
        handler=confirm_campaign,
        operation="confirmCampaign",
        summary="Ask DingTalk which people a campaign reached",
        description="Two calls for each that is asked about. The report tells it then.",
        body=Body(model=ConfirmRequest, required=False),
        answers={202: RouteAnswer(description="The jobs that ask.", model=JobsDocument)},
    ),
)
