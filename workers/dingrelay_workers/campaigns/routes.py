"""The routes of ``/v1/campaigns``."""

from functools import partial

from dingrelay_producers.store.status import JobStatus
from dingrelay_workers.campaigns import handlers
from dingrelay_workers.campaigns.http_documents import (
    CampaignDocument,
    CampaignPage,
    ConfirmRequest,
    CreatedDocument,
    JobsDocument,
    PreviewDocument,
    ReportDocument,
    TestRequest,
)
from dingrelay_workers.campaigns.request import UPLOAD_SCHEMA, CampaignRequest
from dingrelay_workers.campaigns.upload import FORM, arrived
from dingrelay_workers.http.routes import Answer, Body, Handler, Route, links

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
        answers={200: Answer(description="How it stands now.", model=CampaignDocument)},
    )


ROUTES = (
    _route(
        method="POST",
        path="/v1/campaigns",
        handler=handlers.create_campaign,
        operation="createCampaign",
        summary="Make a draft of a campaign with its recipients",
        description=f"Nothing is sent before it is started.\n\n{_FILES}",
        scope="campaigns:write",
        body=_UPLOAD,
        answers={
            201: Answer(
                description="The draft.",
                model=CreatedDocument,
                headers={"Location": "Where the campaign can be looked at."},
            )
        },
        links={201: _LINKS},
    ),
    _route(
        method="POST",
        path="/v1/campaign-previews",
        handler=handlers.preview_plan,
        operation="previewPlan",
        summary="What a campaign would take",
        description=f"Nothing is stored.\n\n{_FILES}",
        scope="campaigns:write",
        body=_UPLOAD,
        answers={200: Answer(description="What it would take.", model=PreviewDocument)},
    ),
    _route(
        method="GET",
        path="/v1/campaigns",
        handler=handlers.list_campaigns,
        operation="listCampaigns",
        summary="List the campaigns, latest first",
        scope="campaigns:read",
        query=handlers.CampaignFilter,
        answers={200: Answer(description="Some of them.", model=CampaignPage)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}",
        handler=handlers.get_campaign,
        operation="getCampaign",
        summary="How a campaign stands",
        scope="campaigns:read",
        answers={200: Answer(description="The campaign.", model=CampaignDocument)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}/preview",
        handler=handlers.preview_campaign,
        operation="previewCampaign",
        summary="What a stored campaign will take as a whole",
        scope="campaigns:read",
        answers={200: Answer(description="What it will take.", model=PreviewDocument)},
    ),
    _of_one(
        method="GET",
        path="/v1/campaigns/{id}/report",
        handler=handlers.report_campaign,
        operation="reportCampaign",
        summary="What became of a campaign's people",
        scope="campaigns:read",
        answers={200: Answer(description="The report.", model=ReportDocument)},
    ),
    _moving(
        "start", handlers.moving(lambda kept, campaign: kept.start(campaign)), "Let a draft run"
    ),
    _moving(
        "pause", handlers.moving(lambda kept, campaign: kept.pause(campaign)), "Hold a campaign"
    ),
    _moving(
        "resume",
        handlers.moving(lambda kept, campaign: kept.resume(campaign)),
        "Let a paused campaign run on",
    ),
    _moving(
        "cancel",
        handlers.moving(lambda kept, campaign: kept.cancel(campaign)),
        "End a campaign for good",
    ),
    _change(
        method="DELETE",
        path="/v1/campaigns/{id}",
        handler=handlers.delete_campaign,
        operation="deleteCampaign",
        summary="Delete a campaign that has ended",
        description="Nobody sees it any more; the workers delete its people, page by page.",
        answers={204: Answer(description="The campaign is deleted.")},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/test",
        handler=handlers.test_campaign,
        operation="testCampaign",
        summary="Send a campaign's message to testers, now",
        description="A tester who is a recipient, too, is left out of the campaign that day.",
        body=Body(model=TestRequest),
        answers={202: Answer(description="The job that sends it.", model=JobStatus)},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/recall",
        handler=handlers.recall_campaign,
        operation="recallCampaign",
        summary="Take back what a campaign sent in the last 24 hours",
        description="One call for each of its calls. It must not run.",
        answers={202: Answer(description="The jobs that do it.", model=JobsDocument)},
    ),
    _change(
        method="POST",
        path="/v1/campaigns/{id}/confirm",
        handler=handlers.confirm_campaign,
        operation="confirmCampaign",
        summary="Ask DingTalk which people a campaign reached",
        description="Two calls for each that is asked about. The report tells it then.",
        body=Body(model=ConfirmRequest, required=False),
        answers={202: Answer(description="The jobs that ask.", model=JobsDocument)},
    ),
)
