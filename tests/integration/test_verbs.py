"""Verbs of all nouns: each is at every door of its noun, as it is declared."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import pytest
from typer.main import get_command

from dingrelay_producers import AsyncClient, Client
from dingrelay_producers.cli import app
from dingrelay_producers.client.approval_verbs import ApprovalVerbs
from dingrelay_producers.client.approvals import ApprovalRef, AsyncApprovalRef
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.testing import RecordingClient
from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.sessions.sessions import LoginLinks


class Doors(NamedTuple):
    """Doors that carry out the verbs of a noun.

    Attributes:
        page: of the console, below which their forms are; "" for forms of other names.
        group: of the command line; "" for commands of other names.
        clients: classes in Python that have a method of each.
        commands: verb → its command, where that is called otherwise; "" for none.
        no_form: verbs that the console has on pages of their own, or not at all.
    """

    page: str = ""
    group: str = ""
    clients: Collection[type] = ()
    commands: Mapping[str, str] = {}
    no_form: Collection[str] = ()


DOORS = {
    "job": Doors("/jobs", "job", [Client, AsyncClient, RecordingClient]),
    "approval": Doors("", "approval", [ApprovalRef, AsyncApprovalRef]),
    "campaign": Doors(
        "/campaigns",
        "campaign",
        commands={
            **dict.fromkeys(("submit", "approve", "reject"), "review"),
            # The first is `report --refresh`; a campaign is written in the console only.
            **dict.fromkeys(("confirm", "write", "save", "attach"), ""),
            "export": "report",
        },
        no_form=("create", "export", "save", "attach", "freeze"),
    ),
    "template": Doors("/campaigns/templates", no_form=("keep",)),
    "webhook": Doors(
        "/webhooks",
        "webhook",
        commands={"add": "create", "remove": "delete"},
        no_form=("add", "rotate", "remove"),
    ),
    "key": Doors("/settings/keys", "key"),
    "role": Doors("/settings/people"),
    "person": Doors("", "person"),
    "audit": Doors("", "audit", commands={"export": "list"}),
    "login-link": Doors(),
    "session": Doors("/settings/sessions"),
}
SERVICES = dict.fromkeys(noun.load(service.part) for noun in NOUNS for service in noun.services)
VERBS = [
    verb
    for noun in dict.fromkeys([Jobs, ApprovalVerbs, LoginLinks, *SERVICES])
    for verb in verbs_of(noun)
]
FORMS = {route.path: route.scope for route in DECLARED if route.method == "POST"}
COMMANDS = get_command(app)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"{verb.noun} {verb.name}")
def test_a_verb_is_at_every_door(verb: Verb) -> None:
    doors = DOORS[verb.noun]
    if verb.path:
        (route,) = [route for route in ROUTES if route.operation == verb.operation]
        assert (route.method, route.path, route.scope) == (verb.method, verb.path, verb.scope)
        assert route.summary == verb.summary != ""
    if doors.page:
        paths = [f"{doors.page}/{{id}}/{verb.name}", f"{doors.page}/{verb.name}"]
        paths += [doors.page] * verb.creates
        scopes = [FORMS[path] for path in paths if path in FORMS]
        assert scopes == ([] if verb.name in doors.no_form else [verb.scope])
    if doors.group and (command := doors.commands.get(verb.name, verb.name)):
        group = COMMANDS.get_command(None, doors.group)  # type: ignore[attr-defined]
        assert command in group.list_commands(None)
    for client in doors.clients:
        assert callable(getattr(client, verb.name))


def test_every_noun_with_doors_has_verbs() -> None:
    assert {verb.noun for verb in VERBS} == DOORS.keys()
