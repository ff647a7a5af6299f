"""The page of the roles: who may do what in the console."""

from aiohttp import web

from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.verb_forms import read_request
from dingrelay_workers.console.visit import Visit, text_of, texts_of
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.roles.scopes import NAMES
from dingrelay_workers.roles.service import RoleRequest, RoleService

MOST = 20
"""People, and departments, that a search shows."""


@at("/settings/people", scope=ANY, menu=("settings", 10, en("Roles")))
async def roles(visit: Visit) -> web.Response:
    """List people and departments with their roles."""
    text = visit.query("q")[:100]
    service = visit.service(RoleService)
    return visit.page(
        "roles.html",
        text=text,
        found=await service.candidates(text, MOST) if text else [],
        given=await service.list(),
        names=NAMES,
        apps=visit.apps,
        lanes=visit.lanes,
    )


@act(
    "/settings/people/grant",
    scope=ANY,
    page=roles,
    labels={
        "subject": en("Who"),
        "role": en("Role"),
        "apps": en("applications"),
        "lanes": en("Lanes"),
    },
)
async def grant(visit: Visit, form: FormValues) -> web.Response:
    """Give a role to a person or a department."""
    directory, _, subject = text_of(form, "subject").partition(" ")
    apps = texts_of(form, "apps") or sorted(visit.grant.apps)
    request = read_request(RoleRequest, form, directory=directory, subject=subject, apps=apps)
    await visit.service(RoleService).grant(request)
    return visit.redirect("/settings/people", en("{} has the role now", subject))


@act("/settings/people/revoke", scope=ANY)
async def revoke(visit: Visit, form: FormValues) -> web.Response:
    """Take a role away."""
    request = {name: text_of(form, name) for name in ("directory", "role", "subject")}
    await visit.service(RoleService).revoke(RoleRequest.parse(request))
    return visit.redirect(
        "/settings/people", en("{} does not have the role any more", request["subject"])
    )
