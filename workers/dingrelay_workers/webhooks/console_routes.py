"""The pages of webhook endpoints: their health, their deliveries one by one, and what can be done."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from operator import itemgetter
from typing import cast, get_args

from aiohttp import web

from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.language import tr
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.job_filter import span_of
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.sentences import meaning
from dingrelay_workers.console.verb_forms import VerbForms
from dingrelay_workers.console.visit import PAGE, Visit, text_of
from dingrelay_workers.http import paging
from dingrelay_workers.roles.scopes import operates
from dingrelay_workers.webhooks.documents import ResumeRequest
from dingrelay_workers.webhooks.endpoints import Endpoint
from dingrelay_workers.webhooks.service import WebhookService

TEST_SECONDS = 8.0
"""Time to wait for the answer to a test."""
STUMBLE = timedelta(minutes=1)
"""An endpoint that fails for less time than this is not news for the first page."""

OF_ENDPOINT: Mapping[str, Meaning] = {
    "enabled": Meaning("good", en("is delivered to")),
    "paused": Meaning("doubt", en("paused")),
    "disabled": Meaning("bad", en("switched off after failures")),
}
OF_DELIVERY: Mapping[str, Meaning] = {
    "pending": Meaning("wait", en("waits, or is tried again")),
    "delivered": Meaning("good", en("accepted by the endpoint")),
    "dead": Meaning(
        "bad",
        en("given up"),
        en("It was refused for days: mend the endpoint, then deliver it again."),
    ),
    "skipped": Meaning("doubt", en("dropped when it was resumed")),
    "test": Meaning("wait", en("a test")),
    "tested": Meaning("good", en("a test")),
}


@at("/webhooks", scope="webhooks:read", menu=("operation", 50, en("Webhooks")))
async def webhooks(visit: Visit) -> web.Response:
    """List the endpoints."""
    listed_endpoints = await visit.service(WebhookService).list()
    shown = [(endpoint, _look_of(endpoint)) for endpoint in listed_endpoints]
    accepted = await visit.service(WebhookService).accepted([endpoint.id for endpoint, _ in shown])
    return visit.page("webhooks.html", endpoints=shown, accepted=accepted)


async def refusing(visit: Visit) -> tuple[str, str] | None:
    """The endpoints that accept nothing, or are switched off, for the first page."""
    if not (operates(visit.session.grants) and visit.may("webhooks:read")):
        return None
    listed = visit.context.shared.get(("webhooks", visit.reach), visit.service(WebhookService).list)
    before = clock.now() - STUMBLE
    troubled = [
        endpoint
        for endpoint in await listed
        if _look_of(endpoint).tone == "bad" and (endpoint.failing_since or before) <= before
    ]
    if not troubled:
        return None
    if len(troubled) > 1:
        return "/webhooks", en("Endpoints of webhooks that accept no notices: {:,}.", len(troubled))
    endpoint, words = troubled[0], _look_of(troubled[0]).words
    return f"/webhooks/{endpoint.id}", en("Webhook “{}”: {}", endpoint.name or endpoint.id, words)


def _look_of(endpoint: Endpoint) -> Meaning:
    """The state of an endpoint, or since when it accepts nothing."""
    if endpoint.state == "enabled" and endpoint.failing_since:
        return Meaning(
            "bad",
            en("accepts nothing since {}; no notice is lost", spoken(endpoint.failing_since)),
            en(
                "It is tried again by itself, and at once after a test that it accepts. Look at its last answer below, and mend it."
            ),
        )
    return meaning(OF_ENDPOINT, endpoint.state)


@at("/webhooks/{id}", scope="webhooks:read")
async def webhook(visit: Visit) -> web.Response:
    """One endpoint, its health, and its deliveries."""
    endpoint = await visit.service(WebhookService).get(visit.part("id"))
    state = visit.choice("state", get_args(DeliveryStateName))
    behind = visit.after(int, read=itemgetter(0))
    page = await visit.service(WebhookService).deliveries(
        endpoint.id,
        state=cast("DeliveryStateName | None", state or None),
        behind=behind,
        limit=PAGE,
    )
    return visit.page(
        "webhook.html",
        endpoint=endpoint,
        state=_look_of(endpoint),
        now=_state_of(endpoint),
        deliveries=[(delivery, meaning(OF_DELIVERY, delivery.state)) for delivery in page],
        chosen=state,
        states={name: meaning(OF_DELIVERY, name) for name in get_args(DeliveryStateName)},
        cursor=paging.encode(page[-1].number) if len(page) == PAGE else "",
        may_change=visit.service(WebhookService).may_change(endpoint),
    )


async def _state(visit: Visit) -> Mapping[str, object]:
    return _state_of(await visit.service(WebhookService).find(visit.part("id")))


def _state_of(endpoint: Endpoint) -> Mapping[str, object]:
    return {"state": meaning(OF_ENDPOINT, endpoint.state).words}


@at("/webhooks/{id}/skip", scope="webhooks:write")
async def confirm_skip(visit: Visit) -> web.Response:
    """Ask before an endpoint is resumed without what it has missed."""
    endpoint = await visit.service(WebhookService).get(visit.part("id"))
    return visit.confirmation(
        action=f"/webhooks/{endpoint.id}/resume",
        title=tr("Resume without the notices that wait?"),
        button=tr("Drop them and resume"),
        lines=(tr("Notices that wait: {waiting:,}.", waiting=endpoint.health.backlog),),
        count=endpoint.health.backlog,
        state=_state_of(endpoint),
        fields={"skip": "1"},
        ends=True,
    )


VerbForms(
    noun=WebhookService, page="/webhooks/{id}", state=_state, pages={"resume": confirm_skip}
).declare(by_hand={"add", "rotate", "remove", "test"})


@act("/webhooks/{id}/test", scope="webhooks:write")
async def probe(visit: Visit, _: FormValues) -> web.Response:
    """Send a test notice, and wait for its answer."""
    endpoint = visit.part("id")
    answer = await visit.service(WebhookService).test(endpoint, within=TEST_SECONDS)
    if answer.state != "tested":
        sentence = en("No worker has sent the test yet; is there one that serves webhooks?")
    elif answer.accepted:
        sentence = en("The endpoint accepted the test.")
    else:
        sentence = en("The endpoint did not accept the test: {} {}", answer.code, answer.reason)
    return visit.redirect(f"/webhooks/{endpoint}", sentence)


@act("/webhooks/{id}/replay", scope="webhooks:write", state=_state)
async def replay(visit: Visit, form: FormValues) -> web.Response:
    """Deliver one notice again, or those of a time."""
    if number := text_of(form, "notice"):
        request = ResumeRequest.parse({"numbers": [number]})
    else:
        since, until = span_of(text_of(form, "since"), text_of(form, "until"), clock.now())
        request = ResumeRequest(since=since, until=until)
    endpoint = await visit.service(WebhookService).resume(visit.part("id"), request)
    sentence = en("{:,} notices are delivered again.", endpoint.notices)
    return visit.redirect(f"/webhooks/{endpoint.id}", sentence)


async def names_of(visit: Visit, _: Collection[str]) -> Mapping[str, str]:
    """Names of the endpoints that the person sees."""
    return {endpoint.id: endpoint.name for endpoint in await visit.service(WebhookService).list()}
