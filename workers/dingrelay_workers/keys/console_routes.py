"""The page of the API keys: made, given a new secret and revoked."""

from collections.abc import Collection, Mapping

from aiohttp import web

from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.language import tr
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.sentences import meaning
from dingrelay_workers.console.verb_forms import read_request
from dingrelay_workers.console.visit import Visit, texts_of
from dingrelay_workers.http.api_keys import SCOPES
from dingrelay_workers.keys.documents import DEFAULT_OVERLAP, IssuedKey, KeyRequest, RotationRequest
from dingrelay_workers.keys.service import KeyService

OF_KEY: Mapping[str, Meaning] = {
    "live": Meaning("good", en("is valid")),
    "expired": Meaning("doubt", en("has expired")),
    "revoked": Meaning("bad", en("is revoked")),
}


@at("/settings/keys", scope="keys:write", menu=("settings", 20, en("API keys")))
async def keys(visit: Visit) -> web.Response:
    """The keys of programs, those that may do no more than the person."""
    listed = await visit.service(KeyService).list()
    return visit.page(
        "keys.html",
        keys=[(key, meaning(OF_KEY, key.state)) for key in listed],
        scopes=[scope for scope in SCOPES if visit.grant.permits(scope)],
        apps=visit.apps,
        lanes=visit.lanes,
        overlap=DEFAULT_OVERLAP,
    )


@act(
    "/settings/keys",
    scope="keys:write",
    page=keys,
    labels={
        "name": en("Name, for people and logs"),
        "scopes": en("What it may do"),
        "apps": en("applications"),
        "lanes": en("Lanes"),
        "sender": en("sender"),
        "owner": en("Its person's userid"),
        "rate": en("Requests, such as 50/1s; no limit if empty"),
        "expires": en("Expires after, such as 90d; never if empty"),
    },
)
async def create(visit: Visit, form: FormValues) -> web.Response:
    """Make a key, and show it once."""
    apps = texts_of(form, "apps") or sorted(visit.grant.apps)
    request = read_request(KeyRequest, form, apps=apps)
    return _issued(visit, await visit.service(KeyService).create(request))


@act("/settings/keys/{id}/rotate", scope="keys:write")
async def rotate(visit: Visit, form: FormValues) -> web.Response:
    """Give a key a new secret, and show it once."""
    rotation = read_request(RotationRequest, form)
    return _issued(visit, await visit.service(KeyService).rotate(visit.part("id"), rotation))


@at("/settings/keys/{id}/revoke", scope="keys:write")
async def confirm_revoke(visit: Visit) -> web.Response:
    """Ask before a key is refused for ever."""
    key = await visit.service(KeyService).get(visit.part("id"))
    return visit.confirmation(
        title=tr("Revoke the key “{name}”?", name=key.name),
        lines=(tr("Programs that use it are refused within 5 seconds, and for ever."), key.id),
        button=tr("Revoke"),
        back="/settings/keys",
        ends=True,
    )


@act("/settings/keys/{id}/revoke", scope="keys:write")
async def revoke(visit: Visit, _: FormValues) -> web.Response:
    """Refuse a key from now on."""
    key = await visit.service(KeyService).revoke(visit.part("id"))
    return visit.redirect("/settings/keys", en("{} ({}) is revoked", key.name, key.id))


def _issued(visit: Visit, issued_key: IssuedKey) -> web.Response:
    response = visit.page("key_issued.html", key=issued_key)
    # The page holds a secret.
    response.headers["Cache-Control"] = "no-store"
    del response.headers["ETag"]
    return response


async def names_of(visit: Visit, _: Collection[str]) -> Mapping[str, str]:
    """Names of the keys that the person sees."""
    return {key.id: key.name for key in await visit.service(KeyService).list()}
