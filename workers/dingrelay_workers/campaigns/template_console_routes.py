"""The page of the templates of messages, and the form that keeps a draft's message as one."""

from collections.abc import Mapping

from aiohttp import web

from dingrelay_producers.client.campaign_documents import TemplateRequest
from dingrelay_producers.errors import TemplateConflict
from dingrelay_tasks.contract import TYPE_FIELD, ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.draft_console_routes import write_page
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.campaigns.reach import READ, WRITE
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.message_form import TYPES
from dingrelay_workers.console.sentences import FieldProblem
from dingrelay_workers.console.verb_forms import VerbForms
from dingrelay_workers.console.visit import Visit, text_of

_LIST = "/campaigns/templates"


@at(_LIST, scope=READ)
async def templates(visit: Visit) -> web.Response:
    """List the templates."""
    listed = await visit.service(MessageTemplates).list()
    types = {
        template.id: TYPES.get(template.message.get(TYPE_FIELD, ""), "") for template in listed
    }
    return visit.page("message_templates.html", templates=listed, types=types)


@at(f"{_LIST}/{{id}}", scope=READ)
async def template(visit: Visit) -> web.Response:
    """A template, as a phone shows it."""
    kept = await visit.service(MessageTemplates).get(visit.part("id"))
    await visit.know(kept.kept_by)
    return visit.page("message_template.html", kept=kept)


@act("/campaigns/{id}/template", scope=WRITE)
async def save_template(visit: Visit, form: FormValues) -> web.Response:
    """Keep the message of a draft, as it is saved."""
    draft = await visit.service(Drafts).get(visit.part("id"))
    templates = visit.service(MessageTemplates)
    name, replaces = text_of(form, "template_name"), text_of(form, "replaces")
    fields = {"app": draft.content.app, "message": draft.content.message}
    status, conflict = 422, None
    try:
        request = TemplateRequest.parse({**fields, "name": name, "replaces": replaces})
        await templates.keep(request)
    except ContractError as error:
        words = error.problem
    except TemplateConflict as error:
        status, conflict = 409, await templates.get(error.template, WRITE)
        await visit.know(conflict.kept_by)
        words = en("There is a template of this name: replace it, or choose another name")
    else:
        said = en("It is kept as the template “{}”.", request.name)
        return visit.redirect(f"/campaigns/{draft.id}/write", said)
    problem = {"template_name": FieldProblem(en("Name of the template"), words)}
    return await write_page(visit, draft, problem, status=status, template=name, conflict=conflict)


async def _state(visit: Visit) -> Mapping[str, object]:
    template = await visit.service(MessageTemplates).get(visit.part("id"))
    return {"name": template.name}


VerbForms(noun=MessageTemplates, page=f"{_LIST}/{{id}}", state=_state).declare(by_hand=("keep",))
