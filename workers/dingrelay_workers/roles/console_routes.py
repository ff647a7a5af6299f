"""The page of the roles: who may do what in the console."""

from aiohttp import web

from dingrelay_producers.language import tr
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.visit import Visit, text_of, texts_of
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.roles.scopes import NAMES
from dingrelay_workers.roles.service import RoleRequest, RoleService

MOST = 20
"""People, and departments, that a search shows."""


@at("/settings/people", scope=ANY, menu=(90, en("Roles")))
async def roles(visit: Visit) -> web.Response:
    """List people and departments with their roles."""
    text = visit.query("q")[:100]
    service = visit.service(RoleService)
    apps = [each for each in visit.context.settings.apps if visit.grant.permits_app(each)]
    found = await service.candidates(text, MOST) if text else []
    return visit.page(
        "roles.html",
        text=text,
        found=[each for each in found if visit.grant.permits_app(each.directory)],
        given=[each for each in await service.list() if visit.grant.permits_app(each.directory)],
        names=NAMES,
        apps=apps,
        lanes=[each for each in LANES if visit.grant.permits_lane(each)],
    )


@act("/settings/people/grant", scope=ANY)
async def grant(visit: Visit, form: FormValues) -> web.Response:
    """Give a role to a person or a department."""
    directory, _, subject = text_of(form, "subject").partition(" ")
    asked = {
        "directory": directory,
        "subject": subject,
        "role": text_of(form, "role"),
        "apps": texts_of(form, "app") or sorted(visit.grant.apps),
        "lanes": texts_of(form, "lane"),
    }
    request = _permitted(visit, RoleRequest.parse(asked))
    await _given(visit, directory, request.role, subject)  # it is replaced
    await visit.service(RoleService).give(request)
    return visit.redirect("/settings/people", en("{} has the role now", subject))


@act("/settings/people/revoke", scope=ANY)
async def revoke(visit: Visit, form: FormValues) -> web.Response:
    """Take a role away."""
    directory, role, subject = (text_of(form, name) for name in ("directory", "role", "subject"))
    for given in await _given(visit, directory, role, subject):
        await visit.service(RoleService).take(given)
    return visit.redirect("/settings/people", en("{} does not have the role any more", subject))


async def _given(visit: Visit, directory: str, role: str, subject: str) -> list[RoleRequest]:
    """The role as the subject has it, in a list; empty if they do not have it."""
    return [
        _permitted(visit, RoleRequest.parse(each.model_dump(include={*RoleRequest.model_fields})))
        for each in await visit.service(RoleService).list()
        if (each.directory, each.role, each.subject) == (directory, role, subject)
    ]


def _permitted(visit: Visit, asked: RoleRequest) -> RoleRequest:
    """Refuse to give or take what the person does not have: apps or lanes of others."""
    if not (visit.grant.covers(asked.grant()) and visit.grant.permits_app(asked.directory)):
        raise web.HTTPForbidden(reason=tr("Your own role does not include all of this."))
    return asked
