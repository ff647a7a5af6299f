"""Verbs of all nouns: each door of a noun carries them out, as they are declared.

The body of a verb is recorded in place of its effect. The same reaches it at each door; nothing does from a caller
without its scope, or with a field that is wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import pytest
from redis import Redis

from dingrelay_producers import AsyncClient, Client
from dingrelay_producers.client.approval_verbs import ApprovalVerbs
from dingrelay_producers.client.campaign_documents import TemplateRequest
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.lanes import Lanes
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.testing import RecordingClient
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.console import app as console
from dingrelay_workers.console.server import listening
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import SCOPES, Grant
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.roles.scopes import ROLES
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.sessions.sessions import LoginLinks, Session, Sessions
from support import campaigns, rows
from support.command_line import Cli
from support.databases import in_database
from support.doors import (
    REACHED,
    CommandLine,
    ConsoleDoor,
    HttpDoor,
    PythonDoor,
    VerbDoor,
    Way,
    recording,
)
from support.examples_of_models import MISSING, examples, refused
from support.gateways import GatewayClient, gateway_thread, stored_keys
from support.jobs import a_draft
from support.serving import in_thread
from support.webhooks import subscribe

SERVICES = dict.fromkeys(noun.load(service.part) for noun in NOUNS for service in noun.services)
BODIES = {
    f"{verb.noun} {verb.name}": (verb, noun)
    for noun in dict.fromkeys([Jobs, ApprovalVerbs, Lanes, LoginLinks, *SERVICES])
    for verb in verbs_of(noun)
}
"""Name of each verb → its declaration, and the class with its body."""
BY_HAND = {"campaign create", "campaign export", "campaign attach", "audit export"}
"""Verbs of files and lists of any length, which no request holds."""
_ROLE = {
    "subject": "u2",
    "role": "write",
    "directory": "default",
    "apps": ["hr"],
    "lanes": ["bulk"],
}
EXAMPLES: Mapping[str, dict[str, Any]] = {
    "job resolve": {"sent": True},
    "webhook resume": {"numbers": [1]},
    "campaign write": {"name": "n", "app": "default", "rate": 5},
    "campaign save": {"version": 1, "rate": 5},
    "campaign test": {"users": ["u2"], "fields": {"x": "y"}},
    "login-link create": {"user": "u2", "role": "view"},
    "role grant": _ROLE,
    "role revoke": _ROLE,
}
"""Verb → what is said, where its fields exclude each other, or are looked up."""
LOOKED_UP = {"login-link create": [("role", "king")]}
"""Verb → values that are refused, though the schema does not say so."""
PAGES = {
    "job": "/jobs/{id}",
    "campaign": "/campaigns/{id}",
    "template": "/campaigns/templates/{id}",
    "webhook": "/webhooks/{id}",
    "lane": "/lanes/{id}",
    "key": "/settings/keys/{id}",
}
"""Noun → page of the console below which its forms are."""
_MESSAGE = {"msgtype": "text", "text": {"content": "x"}}
FORMS: Mapping[str, Way | None] = {
    "job resolve": Way(
        "/jobs/{id}/resolve", {}, {"happened": "yes", "reason": "x"}, {"sent": True}
    ),
    "approval terminate": Way(
        "/approvals/default/{id}/terminate",
        {"reason": "reason"},
        says={"app": "default"},
        asks=["reason"],
    ),
    **{
        f"approval {verdict}": Way(
            "/approvals/default/{id}/decide",
            {"remark": "reason"},
            {"decision": verdict, "user": "u2"},
            {"app": "default", "user": "u2"},
        )
        for verdict in ("agree", "refuse")
    },
    "campaign write": Way("/campaigns/new", {"name": "name", "app": "app"}, asks=["app"]),
    "campaign copy": Way("/campaigns/{id}/copy", {"people": "people"}, asks=["people"]),
    "campaign test": Way("/campaigns/{id}/test", {"users": "users"}, {"version": "1"}),
    "template keep": Way(
        "/campaigns/{id}/template", {"name": "template_name"}, says={"message": _MESSAGE}
    ),
    "key create": Way(
        "/settings/keys",
        {
            name: name
            for name in ("name", "scopes", "apps", "lanes", "sender", "rate", "expires", "owner")
        },
        asks=["lanes"],
    ),
    "key rotate": Way("/settings/keys/{id}/rotate", {"overlap": "overlap", "owner": "owner"}),
    "webhook resume": Way("/webhooks/{id}/resume", {"skip": "skip"}),
    "role grant": Way(
        "/settings/people/grant",
        {"role": "role", "apps": "apps", "lanes": "lanes"},
        {"subject": "default u2"},
        {"subject": "u2"},
        asks=["lanes"],
    ),
    "role revoke": Way(
        "/settings/people/revoke",
        {name: name for name in ("subject", "role", "directory")},
        asks=["directory"],
    ),
    "session end": Way("/settings/sessions/end", {"id": "id"}),
    "session end_all": Way("/settings/sessions/end_all", {"user": "user"}),
    **dict.fromkeys(("approval comment", "campaign save", "campaign freeze")),
    **dict.fromkeys(("webhook add", "webhook rotate", "webhook remove")),
    **dict.fromkeys(("login-link create", "person export", "person erase")),
}
"""Verb → its form, where that is made by hand; None for none."""
COMMANDS: Mapping[str, Way | None] = {
    "campaign submit": Way("campaign review"),
    "campaign approve": Way("campaign review", more=["--approve"], asks=["version"]),
    "campaign reject": Way("campaign review"),
    "campaign confirm": Way("campaign report", more=["--refresh", "--yes"]),
    "campaign recall": Way("campaign recall", more=["--yes"]),
    "campaign delete": Way("campaign delete", more=["--yes"]),
    "campaign freeze": Way("campaign freeze", says={"version": 1}),
    "webhook add": Way("webhook create"),
    "webhook remove": Way("webhook delete"),
    "session end": Way("console sessions end"),
    "session end_all": Way("console sessions end-all"),
    "role grant": Way("console role"),
    "role revoke": Way("console role", more=["--revoke"]),
    "login-link create": Way("console login-link"),
    "person erase": Way("person erase", more=["--yes"]),
    "campaign write": None,
    "campaign save": None,
}
"""Verb → its command, where that is not called as it is, or is made by hand; None for none."""
METHODS: Mapping[str, Callable[[Any, str, Any], Any]] = {
    "job": lambda client, name, ids: partial(getattr(client, name), *ids),
    "approval": lambda client, name, ids: getattr(client.approval(*ids), name),
    "campaign": lambda client, name, ids: getattr(client.campaign_ref(*ids), name),
    "lane": lambda client, name, ids: partial(getattr(client, f"{name}_lane"), *ids),
    "template": lambda client, name, ids: partial(getattr(client, f"{name}_template"), *ids),
    "person": lambda client, name, ids: partial(getattr(client, f"{name}_person"), *ids),
}
"""Noun → method of a client, for a verb of this name and its object."""
NO_METHODS = {
    f"campaign {name}"
    for name in ("submit", "approve", "reject", "write", "copy", "save", "freeze")
}


def way_through(door: str, name: str) -> Way | None:
    """How a verb is said at a door; None where it does not have it."""
    verb, _ = BODIES[name]
    match door:
        case "http":
            return Way(verb.path) if verb.path else None
        case "console":
            return FORMS.get(name, Way(f"{PAGES.get(verb.noun)}/{verb.name}"))
        case "cli":
            return COMMANDS.get(name, Way(name))
        case _:
            has_method = verb.noun in METHODS and name not in NO_METHODS
            asks = ["users"] if name == "campaign test" else []
            return Way(verb.name, asks=asks) if has_method else None


PAIRS = [
    (name, door)
    for name in BODIES
    for door in ("http", "console", "cli", "python", "asyncio")
    if name not in BY_HAND and way_through(door, name)
]


class Place(NamedTuple):
    """Objects of the verbs, and the doors.

    Attributes:
        ids: noun, or verb → id of what it is done to.
        keys: scope → key of all others.
        sessions: role → session of a person with it.
    """

    ids: Mapping[str, str]
    keys: Mapping[str, str]
    sessions: Mapping[str, Session]
    gateway: GatewayClient
    console: str
    cli: Cli
    clients: Mapping[str, Client | AsyncClient]

    def door(self, name: str, *, without: str = "") -> VerbDoor:
        """The door, for a caller who may do everything, or all but what is of a scope."""
        match name:
            case "http":
                return HttpDoor(self.gateway, self.keys.get(without, ""))
            case "console":
                roles = (role for role, scopes in ROLES.items() if not scopes & {"*", without})
                return ConsoleDoor(self.console, self.sessions[next(roles) if without else "admin"])
            case "cli":
                return CommandLine(self.cli)
            case _:
                return PythonDoor(self.clients[name], METHODS)


@pytest.fixture(scope="module")
def place(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("doors")
    variables = {
        "DINGRELAY_ENV": "sandbox",
        "DINGRELAY_REDIS_URL": shared_url,
        "DINGRELAY_DATABASE_URL": f"sqlite:///{folder / 'doors.db'}",
    }
    settings = Settings.load(
        env="sandbox", redis_url=shared_url, database_url=variables["DINGRELAY_DATABASE_URL"]
    )
    every = frozenset(SCOPES)
    grants = [Grant(name=f"not {scope}", scopes=every - {scope}) for scope in ("", *SCOPES)]
    with ExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.chdir(folder)
        # For which state of an object a form is good is another test's subject.
        patched.setattr(console, "_changed_page", lambda *_: None)
        redis = stack.enter_context(Redis.from_url(shared_url))
        redis.flushall()
        texts = stored_keys(settings, grants)
        ids, sessions = in_database(settings.database, partial(filled, settings))
        yield Place(
            {**ids, **jobs_in(redis)},
            {name.removeprefix("not "): text for name, text in texts.items()},
            sessions,
            stack.enter_context(gateway_thread(settings, Services(settings))),
            stack.enter_context(in_thread(listening(settings, "127.0.0.1", 0)))[0],
            Cli(variables),
            {"python": stack.enter_context(Client(settings)), "asyncio": AsyncClient(settings)},
        )


def jobs_in(redis: Redis) -> dict[str, str]:
    """A job that waits, and one whose outcome is unknown."""
    ids: dict[str, str] = {}
    for name, state in (("job", "queued"), ("job resolve", "unknown")):
        draft = a_draft(text=name)
        scripts.run(redis, record.enqueue(draft))
        redis.hset(keys.job(draft.id), "state", state)
        ids[name] = draft.id
    return ids


async def filled(
    settings: Settings, database: Database
) -> tuple[dict[str, str], dict[str, Session]]:
    """One of everything in SQL, and a session of a person of each role."""
    content = {"name": "n", "app": "default", "message": _MESSAGE, "pasted": "u2"}
    people = [{"userid": user, "name": user} for user in ("u2", *ROLES)]
    await rows.put(database, UserRow, *people)
    written = await campaigns.Writers(settings, database).create(content, "u2")
    done = await campaigns.put(database, state="done", writers=["u2"])
    called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
    await rows.change(
        database, ChunkRow, ChunkRow.campaign == done, state=ChunkState.SETTLED, **called
    )
    followed = {"instance": "i1", "state": "running"}
    await rows.put(database, ApprovalRow, {**followed, "originator": "u1", "source": "event"})
    await rows.put(database, ApprovalTaskRow, {**followed, "task": "t1", "user": "u2"})
    await subscribe(database)
    template = TemplateRequest.parse({"name": "t", "message": _MESSAGE})
    ids = {
        "approval": "i1",
        "campaign": await campaigns.put(database, state="draft", writers=["u2"]),
        **dict.fromkeys(("campaign recall", "campaign confirm"), done),
        **dict.fromkeys(("campaign test", "campaign freeze", "template keep"), written.id),
        "template": (await MessageTemplates(settings, database).keep(template)).id,
        "webhook": "drw_test",
        "key": "drk_aaaaaaaaaaaa",
        "lane": "default:bulk",
    }
    sessions: dict[str, Session] = {}
    for role in ROLES:
        await RoleService(database).grant(RoleRequest.parse({"subject": role, "role": role}))
        session = await Sessions(database).begin("default", role)
        assert session
        sessions[role] = session
    return ids, sessions


class Attempt(NamedTuple):
    """A verb that is said at a door.

    Attributes:
        closed_door: the same for a caller without the verb's scope.
        said: a good value of each field that the door has.
        reached: what reached the body.
    """

    verb: Verb
    way: Way
    door: VerbDoor
    closed_door: VerbDoor
    id: str
    said: dict[str, Any]
    reached: list[tuple[Any, ...]]


@pytest.fixture
def attempt(place: Place, name: str, door: str) -> Iterator[Attempt]:
    (verb, noun), way, model = BODIES[name], way_through(door, name), BODIES[name][0].request
    assert way
    opened = place.door(door)
    fields = EXAMPLES.get(name) or (examples(model) if model else {})
    said = {field: fields[field] for field in fields if field in opened.names(verb, way)}
    id_ = place.ids.get(name, place.ids.get(verb.noun, ""))
    with recording(noun, verb) as reached:
        closed = place.door(door, without=verb.scope)
        yield Attempt(verb, way, opened, closed, id_, said, reached)


by_door = pytest.mark.parametrize(("name", "door"), PAIRS)


@by_door
def test_a_door_carries_a_verb_out_with_what_is_said(attempt: Attempt) -> None:
    verb, way, said = attempt.verb, attempt.way, attempt.said
    fields = verb.request.model_fields if verb.request else {}
    required = {name: said[name] for name in said if fields[name].is_required() or name in way.asks}
    for some in (said, required):  # of the rest the defaults reach the body
        answer = attempt.door.answer(verb, way, attempt.id, some)
        request = [verb.request.parse({**some, **way.says})] if verb.request else []
        assert attempt.reached == [(*[attempt.id] * verb.has_object, *request)], answer
        assert (answer[0], REACHED in answer[1]) == (attempt.door.unavailable, True), answer
        attempt.reached.clear()


@pytest.mark.parametrize(
    ("name", "door"), [pair for pair in PAIRS if pair[1] in {"http", "console"}]
)
def test_a_door_is_closed_without_the_scope(attempt: Attempt) -> None:
    answer = attempt.closed_door.answer(attempt.verb, attempt.way, attempt.id, attempt.said)
    assert (answer[0], attempt.reached) == (403, []), answer


@by_door
def test_a_door_names_the_field_that_is_wrong(attempt: Attempt) -> None:
    verb, way, opened = attempt.verb, attempt.way, attempt.door
    wrong = refused(verb.request, *opened.wrong) if verb.request else []
    for field, value in [*wrong, *LOOKED_UP.get(f"{verb.noun} {verb.name}", ())]:
        if field not in opened.names(verb, way):
            continue
        said = {**attempt.said, field: value}
        if value is MISSING:
            del said[field]
        status, text = opened.answer(verb, way, attempt.id, said)
        assert (status in {400, 422, 2}, attempt.reached) == (True, []), (field, value, text)
        assert opened.blames(text, verb, way, field), (field, value, text)


@pytest.mark.parametrize("name", ["campaign export", "audit export"])
def test_a_file_is_handed_out_by_its_verb_at_each_door(place: Place, name: str) -> None:
    verb, noun = BODIES[name]
    campaign, visitor = place.ids["campaign"], place.door("console")
    assert isinstance(visitor, ConsoleDoor)
    with recording(noun, verb) as reached:
        if name == "audit export":
            assert visitor.ask("GET", "/settings/audit.csv")[0] == 200
            assert place.cli("audit", "list", "--csv").exit_code == 0
        else:
            path = f"/campaigns/{campaign}/people.csv"
            assert visitor.ask("GET", path)[0] == 200
            assert place.gateway.ask("GET", f"/v1{path}", key=place.keys[""]).status == 200
            for option in ("--csv", "--json-file"):
                assert place.cli("campaign", "report", campaign, option, "people").exit_code == 0
    assert len(reached) == (2 if name == "audit export" else 4)


@pytest.mark.parametrize("name", BODIES)
def test_a_verb_has_its_route_and_a_method_of_tests(name: str) -> None:
    verb, _ = BODIES[name]
    if verb.path:
        (route,) = [route for route in ROUTES if route.operation == verb.operation]
        assert (route.method, route.path, route.scope) == (verb.method, verb.path, verb.scope)
        assert route.summary == verb.summary != ""
    if verb.noun == "job":
        assert callable(getattr(RecordingClient, verb.name))
