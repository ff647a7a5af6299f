"""``/v1/campaign-drafts``: what is to become a campaign, written by several people and programs."""

from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dingrelay_producers.client.campaign_documents import CampaignPreview, CampaignStatus
from dingrelay_producers.errors import DraftNotFound
from dingrelay_tasks.contract import AppName, Document
from dingrelay_workers.campaigns.documents import DraftContent, Pasted
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts, PastedPeople
from dingrelay_workers.campaigns.people import author
from dingrelay_workers.campaigns.routes import (
    asking_campaigns,
    check_lane,
    check_left_out,
    id_of,
    permitted_sender,
    refusing,
)
from dingrelay_workers.http import paging
from dingrelay_workers.http.authentication import check_app, may_see
from dingrelay_workers.http.routes import Body, HttpCall, RouteAnswer, Routes, creates, links

ROUTES = Routes(tag="campaigns", scope="campaigns:write")
_one = partial(ROUTES, path_parameters={"id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}})
_change = partial(_one, problems=frozenset({404, 409, 422}))

Version = Annotated[int, Field(ge=1)]


class DraftChange(DraftContent):
    """A change of a draft. What is left out stays as it is; null is a field's default.

    Attributes:
        version: of the draft, from which the change was made.
    """

    version: Version


class DraftVersion(Document):
    """The version of a draft that becomes a campaign."""

    version: Version


class PastedText(Document):
    """A text that names people, and the app whose directory has them."""

    app: AppName = "default"
    text: Pasted


class DraftPaging(paging.Paging):
    """Page of the list of drafts."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    """Drafts at most."""
    cursor: Annotated[Any, paging.Behind(datetime, str)] = None


DraftPage = paging.page_of(
    "DraftPage",
    "Some drafts, the one that was changed last first.\n\nA page may hold fewer than asked for although there are more.",
    drafts=CampaignDraft,
)


@ROUTES(
    "POST /v1/campaign-drafts",
    creates("The draft.", CampaignDraft, "Where the draft can be looked at."),
    body=Body(model=DraftContent),
    problems=frozenset({422}),
    links={201: links("getDraft", "saveDraft", "checkDraft", "freezeDraft")},
)
async def create_draft(call: HttpCall) -> CampaignDraft:
    """Make a draft, which may be half-filled."""
    content = DraftContent.parse(call.body, strict=True)
    content = content.model_copy(update={"sender": permitted_sender(call, content)})
    named = id_of(call)
    async with asking_campaigns(call.context) as campaigns:
        await check_left_out(campaigns, call.key, content.without_campaigns)
        drafts, made = call.context.service(Drafts), None
        if named is not None:  # the answer to an earlier request may have been lost
            with suppress(DraftNotFound):
                made = await drafts.get(named)
        made = made or await drafts.create(
            content.model_dump(), author(call.context.settings), named
        )
    call.headers["Location"] = f"/v1/campaign-drafts/{made.id}"
    return made


@ROUTES("GET /v1/campaign-drafts", DraftPage, query=DraftPaging)
async def list_drafts(call: HttpCall) -> BaseModel:
    """List the drafts whose campaigns were not started."""
    asked: DraftPaging = call.query
    async with asking_campaigns(call.context):
        found = await call.context.service(Drafts).list(
            call.key.sees["apps"], limit=asked.limit, behind=asked.cursor
        )
    seen = [each for each in found if _is_seen(call, each)]
    return DraftPage(drafts=seen, next=paging.behind(found, asked.limit, "updated_at", "id"))


@_one("GET /v1/campaign-drafts/{id}", CampaignDraft)
async def get_draft(call: HttpCall) -> CampaignDraft:
    """A draft as it is stored."""
    return await _found(call)


@_change("PATCH /v1/campaign-drafts/{id}", CampaignDraft, body=Body(model=DraftChange))
async def save_draft(call: HttpCall) -> CampaignDraft:
    """Change some fields of a draft.

    Refused where another change was saved since `version` (409): read the draft again.
    """
    asked = DraftChange.parse(call.body, strict=True)
    changes: dict[str, Any] = {
        name: getattr(asked, name) for name in call.body if name != "version"
    }
    draft = await _found(call)
    content = draft.content.model_copy(update=changes)
    if changes.keys() & {"app", "sender"}:
        changes["sender"] = permitted_sender(call, content)
    async with asking_campaigns(call.context) as campaigns:
        await check_left_out(campaigns, call.key, asked.without_campaigns)
        drafts = call.context.service(Drafts)
        return await drafts.save(draft.id, asked.version, changes, author(call.context.settings))


@_change("DELETE /v1/campaign-drafts/{id}", {204: RouteAnswer(description="It is deleted.")})
async def delete_draft(call: HttpCall) -> None:
    """Delete a draft; a campaign that was made of it stays."""
    draft = await _found(call)
    async with asking_campaigns(call.context):
        await call.context.service(Drafts).delete(draft.id)


@_one("GET /v1/campaign-drafts/{id}/check", CampaignPreview, problems=frozenset({404, 422}))
async def check_draft(call: HttpCall) -> CampaignPreview:
    """Check a draft: its cost, and the people that it would not reach.

    It only reads. What the draft lacks as a campaign is named.
    """
    draft = await _found(call)
    with refusing(call):
        return await call.context.service(Drafts).check(draft.id)


@_change(
    "POST /v1/campaign-drafts/{id}/freeze",
    creates("The campaign.", CampaignStatus, "Where the campaign can be looked at."),
    body=Body(model=DraftVersion),
    links={201: links("getCampaign", "requestReview", "startCampaign", "cancelCampaign")},
)
async def freeze_draft(call: HttpCall) -> CampaignStatus:
    """Make a campaign of a draft, whose people and text stay as they are.

    Nothing is sent before it is started. The same version makes one campaign, however often; one that was made of an
    earlier version, and was not started, is deleted. Rows and words that name no person are skipped.
    """
    asked = DraftVersion.parse(call.body, strict=True)
    draft = await _found(call)
    with refusing(call):
        drafts = call.context.service(Drafts)
        made = await drafts.freeze(draft.id, asked.version, author(call.context.settings))
    call.headers["Location"] = f"/v1/campaigns/{made.id}"
    return made


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


async def _found(call: HttpCall) -> CampaignDraft:
    """The draft that the path names.

    Raises:
        DraftNotFound: there is none, or the key may not see it; the answer does not reveal which.
        Problem: the key is not for campaigns.
    """
    async with asking_campaigns(call.context):
        found = await call.context.service(Drafts).get(call.path("id"))
    if not _is_seen(call, found):
        raise DraftNotFound(found.id)
    check_lane(call.key)
    return found


def _is_seen(call: HttpCall, draft: CampaignDraft) -> bool:
    return may_see(call.key, sender=draft.content.sender, app=draft.content.app)
