"""``/v1/templates``: messages that are kept under a name."""

from pydantic import BaseModel

from dingrelay_workers.campaigns.message_templates import MessageTemplate, MessageTemplates
from dingrelay_workers.campaigns.reach import READ
from dingrelay_workers.campaigns.routes import ONE
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, Routes
from dingrelay_workers.http.verb_routes import VerbRoutes

ROUTES = Routes(tag="campaigns", scope=READ)

TemplateList = paging.page_of("TemplateList", "Templates, by name.", templates=MessageTemplate)


@ROUTES("GET /v1/templates", TemplateList)
async def list_templates(call: HttpCall) -> BaseModel:
    """List the templates of messages."""
    return TemplateList(templates=await call.context.service(MessageTemplates).list())


@ROUTES("GET /v1/templates/{id}", MessageTemplate, path_parameters=ONE)
async def get_template(call: HttpCall) -> MessageTemplate:
    """A template, with its message."""
    return await call.context.service(MessageTemplates).get(call.path("id"))


VerbRoutes(MessageTemplates, fields={"path_parameters": ONE}).declare(ROUTES)
