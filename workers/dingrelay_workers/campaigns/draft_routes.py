"""``/v1/campaigns`` before they are sent, and ``/v1/templates``, with whose messages they begin."""

from dataclasses import replace

from pydantic import BaseModel

from dingrelay_producers.client.campaign_documents import MessageTemplate
from dingrelay_tasks.contract import AppName, Document
from dingrelay_workers.campaigns.documents import Pasted
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts, PastedPeople
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.campaigns.reach import READ, WRITE
from dingrelay_workers.campaigns.routes import ONE, VERBS, asking_campaigns
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import Body, HttpCall, Routes
from dingrelay_workers.http.verb_routes import VerbRoutes

ROUTES = Routes(tag="campaigns", scope=WRITE)


class PastedText(Document):
    """A text that names people, and the app whose directory has them."""

    app: AppName = "default"
    text: Pasted


@ROUTES("GET /v1/campaigns/{id}/draft", CampaignDraft, path_parameters=ONE)
async def get_draft(call: HttpCall) -> CampaignDraft:
    """Content of a campaign as it is written: its text, its people, its rules."""
    async with asking_campaigns(call.context):
        return await call.context.service(Drafts).get(call.path("id"))


fields = {**VERBS.fields, "problems": frozenset({404, 409, 422})}
replace(VERBS, noun=Drafts, fields=fields).declare(ROUTES)


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

    By userids, mobile numbers, e-mail addresses, job numbers or names, one a line or between commas, or in rows of a
    table; as `pasted` of a campaign is read. Nothing is stored.
    """
    request = PastedText.parse(call.body, strict=True)
    async with asking_campaigns(call.context):
        return await call.context.service(Drafts).parse_pasted(request.app, request.text)


TemplateList = paging.page_of("TemplateList", "Templates, by name.", templates=MessageTemplate)


@ROUTES("GET /v1/templates", TemplateList, scope=READ)
async def list_templates(call: HttpCall) -> BaseModel:
    """List the templates of messages."""
    return TemplateList(templates=[*await call.context.service(MessageTemplates).list()])


@ROUTES("GET /v1/templates/{id}", MessageTemplate, scope=READ, path_parameters=ONE)
async def get_template(call: HttpCall) -> MessageTemplate:
    """A template, with its message."""
    return await call.context.service(MessageTemplates).get(call.path("id"))


VerbRoutes(MessageTemplates, fields={"path_parameters": ONE}).declare(ROUTES)
