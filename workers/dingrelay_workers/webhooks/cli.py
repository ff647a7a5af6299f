"""``dingrelay webhook``: the endpoints that receive notices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dingrelay_producers.cli.options import Limit
from dingrelay_producers.cli.output import (
    Column,
    console,
    page_of,
    print_result,
    print_secret,
    print_table,
)
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_producers.exit_codes import DONE, OTHERWISE, UNREACHABLE
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.webhooks.documents import (
        DeliveryDocument,
        EndpointStatus,
        IssuedEndpoint,
    )
    from dingrelay_workers.webhooks.endpoints import Endpoint

EndpointArgument = Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id, drw_…")]

ANSWER = 30.0
"""Seconds for the answer to a test: the time-out of a request, and a worker that is busy."""


def _carry_out(noun: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.cli_services import carry_out
    from dingrelay_workers.webhooks.documents import IssuedEndpoint, ResumeRequest

    endpoint = carry_out(noun, verb, *arguments)
    if endpoint is None:
        document = {"id": arguments[0], "state": "deleted"}
        print_result(document, lambda: tr("{endpoint} is deleted", endpoint=arguments[0]))
    elif isinstance(endpoint, IssuedEndpoint):
        _show_once(endpoint)
    else:
        sentence = tr("{id} is {state}", id=endpoint.id, state=endpoint.state)
        if any(isinstance(argument, ResumeRequest) and argument.repeats for argument in arguments):
            sentence = tr("{count} notices are delivered again", count=endpoint.notices)
        print_result(endpoint, lambda: sentence)


app = noun_app(
    VerbCommands(
        "dingrelay_workers.webhooks.service:WebhookService",
        ("endpoint", EndpointArgument),
        _carry_out,
        names={"add": "create", "remove": "delete"},
    ),
    "Notify your programs of what happens: manage their endpoints.",
)


@app.command("list")
def list_(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The endpoint's id, drw_…")
    ] = None,
    state: Annotated[
        DeliveryStateName | None, typer.Option(help="Only deliveries in this state.")
    ] = None,
    limit: Limit = 10,
) -> None:
    """List the endpoints, or the deliveries of one: its backlog, since when it fails, and its latest notices."""
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.webhooks.service import WebhookService

    if endpoint is None:
        listed_endpoints = ask(WebhookService, lambda webhooks: webhooks.list())
        print_result(listed_endpoints, lambda: _print_table(listed_endpoints))
        return

    async def act(webhooks: WebhookService) -> "tuple[EndpointStatus, Sequence[DeliveryDocument]]":
        latest = await webhooks.deliveries(endpoint, state=state, limit=limit)
        return await webhooks.get(endpoint), latest

    status, deliveries = ask(WebhookService, act)
    document = status.model_dump(mode="json")
    document["deliveries"] = [delivery.model_dump(mode="json") for delivery in deliveries]
    print_result(document, lambda: _print_deliveries(status, deliveries))


@app.command("test")
def probe(endpoint: EndpointArgument) -> None:
    """Send a test notice to an endpoint, and show the answer."""
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.webhooks.service import WebhookService

    answer = ask(WebhookService, lambda webhooks: webhooks.test(endpoint, within=ANSWER))
    sent = answer.state == "tested"
    page = (
        answer.reason
        if sent
        else en("no worker has sent it yet; is there one that serves webhooks?")
    )
    print_result(answer, lambda: translated(page))
    raise typer.Exit((DONE if answer.accepted else OTHERWISE) if sent else UNREACHABLE)


def _show_once(issued_endpoint: "IssuedEndpoint") -> None:
    advice = tr("The receiver verifies signatures with this secret. It is never shown again.")
    if until := issued_endpoint.old_secret_until:
        advice += tr(" The old secret signs as well until {moment}.", moment=local(until))
    print_secret(
        issued_endpoint,
        f"{issued_endpoint.id} {issued_endpoint.secret}",
        advice,
    )


def _print_table(listed_endpoints: "Sequence[Endpoint]") -> None:
    print_table(
        listed_endpoints,
        Column("state", lambda endpoint: endpoint.state),
        Column("id", lambda endpoint: endpoint.id),
        Column("types", lambda endpoint: " ".join(endpoint.types), rank=3),
        Column("only", _only, rank=5),
        Column("url", lambda endpoint: endpoint.url, rank=1),
        Column("name", lambda endpoint: endpoint.name, rank=4),
        Column("reason", lambda endpoint: translated(endpoint.reason), rank=2, cut=True),
    )


def _only(endpoint: "Endpoint") -> str:
    """The filters beside the types."""
    return " ".join(
        f"{name}={','.join(sorted(values))}"
        for name, values in (
            ("app", endpoint.apps),
            ("sender", endpoint.senders),
            ("kind", endpoint.kinds),
        )
        if values
    )


def _print_deliveries(status: "EndpointStatus", deliveries: "Sequence[DeliveryDocument]") -> None:
    console().print(_page(status))
    print_table(
        deliveries,
        Column("number", lambda row: str(row.number), rank=6, right=True),
        Column("at", lambda row: local(row.at), rank=2),
        Column("state", lambda row: row.state),
        Column("type", lambda row: row.type),
        Column("att.", lambda row: str(row.attempts), rank=4, right=True),
        Column("next try at", lambda row: local(row.due_at) if row.due_at else "", rank=5),
        Column("notice", lambda row: row.notice, rank=3),
        Column(
            "reason", lambda row: f"{row.code} {translated(row.reason)}".strip(), rank=1, cut=True
        ),
    )


def _page(status: "EndpointStatus") -> Table:
    endpoint, health = status, status.health
    failing = local(health.failing_since) if health.failing_since else ""
    return page_of(
        (tr("id"), endpoint.id),
        (tr("name"), endpoint.name),
        (tr("url"), endpoint.url),
        (tr("types"), " ".join(endpoint.types)),
        (tr("only"), _only(endpoint)),
        (tr("state"), f"{endpoint.state} {translated(endpoint.reason)}".rstrip()),
        (
            tr("waiting"),
            tr(
                "{backlog} notices, {under_way} under way",
                backlog=health.backlog,
                under_way=health.under_way,
            ),
        ),
        (tr("last accepted"), health.taken_at),
        (tr("failing since"), f"{failing} {translated(health.last_failure)}".strip()),
        (tr("next try at"), health.retry_at),
        (tr("old secret until"), endpoint.old_secret_until),
    )
