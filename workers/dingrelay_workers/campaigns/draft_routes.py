"""``/v1/campaigns`` before they are sent: written by several people and programs, checked and made ready."""

from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from dingrelay_producers.client.campaign_documents import CampaignStatus
from dingrelay_producers.errors import CampaignNotFound
from dingrelay_tasks.contract import AppName, Document
from dingrelay_workers.campaigns.documents import DraftContent, Pasted
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts, PastedPeople
from dingrelay_workers.campaigns.people import author
from dingrelay_workers.campaigns.routes import (
    COUNTING,
    asking_campaigns,
    check_left_out,
    found_campaign,
    id_of,
    permitted_sender,
    refusing,
)
from dingrelay_workers.http.authentication import check_app
from dingrelay_workers.http.routes import Body, HttpCall, Routes, creates, links

ROUTES = Routes(tag="campaigns", scope="campaigns:write")
_one = partial(ROUTES, path_parameters={"id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}})
_change = partial(_one, problems=frozenset({404, 409, 422}))

Version = Annotated[int, Field(ge=1)]


class DraftChange(DraftContent):
    """A change of a campaign before its start. What is left out stays as it is; null is a field's default.

    Attributes:
        version: of the campaign, from which the change was made.
    """

    version: Version


class DraftVersion(Document):
    """The version of a draft that becomes ready."""

    version: Version


class PastedText(Document):
    """A text that names people, and the app whose directory has them."""

    app: AppName = "default"
    text: Pasted


@ROUTES(
    "POST /v1/campaigns/drafts",
    creates("The draft.", CampaignDraft, "Where the campaign can be looked at."),
    body=Body(model=DraftContent),
    problems=frozenset({422}),
    links={201: links("getCampaign", "getDraft", "saveDraft", "previewCampaign", "freezeDraft")},
)
async def create_draft(call: HttpCall) -> CampaignDraft:
    """Begin a campaign as a draft, which may be half-filled."""
    content = DraftContent.parse(call.body, strict=True)
    content = content.model_copy(update={"sender": permitted_sender(call, content)})
    drafts, named = call.context.service(Drafts), id_of(call)
    async with asking_campaigns(call.context) as campaigns:
        await check_left_out(campaigns, call.key, content.without_campaigns)
        made = await _made_before(drafts, named)
        made = made or await drafts.create(
            content.model_dump(), author(call.context.settings), named
        )
    call.headers["Location"] = f"/v1/campaigns/{made.id}"
    return made


@_one("GET /v1/campaigns/{id}/draft", CampaignDraft)
async def get_draft(call: HttpCall) -> CampaignDraft:
    """Content of a campaign as it is written: its text, its people, its rules."""
    async with found_campaign(call, changed=True) as (_, campaign):
        return await call.context.service(Drafts).get(campaign.id)


@_change("PATCH /v1/campaigns/{id}", CampaignDraft, body=Body(model=DraftChange))
async def save_draft(call: HttpCall) -> CampaignDraft:
    """Change the content of a campaign that was not started.

    One that is ready becomes a draft again, and its approval is void. Refused where another change was saved since
    `version` (409): read it again.
    """
    asked = DraftChange.parse(call.body, strict=True)
    changes: dict[str, Any] = {
        name: getattr(asked, name) for name in call.body if name != "version"
    }
    drafts = call.context.service(Drafts)
    async with found_campaign(call, within=COUNTING, changed=True) as (campaigns, campaign):
        if changes.keys() & {"app", "sender"}:
            content = (await drafts.get(campaign.id)).content.model_copy(update=changes)
            changes["sender"] = permitted_sender(call, content)
        await check_left_out(campaigns, call.key, asked.without_campaigns)
        return await drafts.save(campaign.id, asked.version, changes, author(call.context.settings))


@_change("POST /v1/campaigns/{id}/freeze", CampaignStatus, body=Body(model=DraftVersion))
async def freeze_draft(call: HttpCall) -> CampaignStatus:
    """Make a draft ready: it is checked, and its people and text stay as they are.

    Nothing is sent before it is started. Once more changes nothing. Rows and words that name no person are skipped.
    """
    asked = DraftVersion.parse(call.body, strict=True)
    async with found_campaign(call, changed=True) as (_, campaign):
        pass
    with refusing(call):
        drafts = call.context.service(Drafts)
        return await drafts.freeze(campaign.id, asked.version, author(call.context.settings))


@_change(
    "POST /v1/campaigns/{id}/copy",
    creates("The draft.", CampaignDraft, "Where the campaign can be looked at."),
    links={201: links("getCampaign", "getDraft", "saveDraft", "freezeDraft")},
)
async def copy_campaign(call: HttpCall) -> CampaignDraft:
    """Make a draft with the text, the rules and the people of a campaign, whatever became of that.

    Its time is left out.
    """
    drafts, named = call.context.service(Drafts), id_of(call)
    async with found_campaign(call, within=COUNTING, changed=True) as (_, campaign):
        made = await _made_before(drafts, named)
        made = made or await drafts.copy(campaign.id, author(call.context.settings), named)
    call.headers["Location"] = f"/v1/campaigns/{made.id}"
    return made


async def _made_before(drafts: Drafts, named: str | None) -> CampaignDraft | None:
    """The draft that this request made before its answer was lost."""
    if named is not None:
        with suppress(CampaignNotFound):
            return await drafts.get(named)
    return None


@ROUTES(
    "POST /v1/directory/matches",
    PastedPeople,
    scope="directory:read",
    tag="directory",
    body=Body(model=PastedText),
    problems=frozenset({422}),
)
async def match_people(call: HttpCall) -> PastedPeople:
    """Find the people that a pasted text names.

    By userids, mobile numbers, e-mail addresses, job numbers or names, one a line or between commas; as `pasted` of a
    campaign is read. Nothing is stored.
    """
    asked = PastedText.parse(call.body, strict=True)
    check_app(call.key, asked.app)
    async with asking_campaigns(call.context):
        return await call.context.service(Drafts).parse_pasted(asked.app, asked.text)
