"""The declaration of a noun: its parts, each loaded at its first use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple, TypeVar

Part = str
"""A part of a noun: ``module:name`` in its folder, or a module only. Importing the declaration imports none of them."""
Role = Literal["view", "write", "approve", "operate", "admin"]
"""Role in the console."""
_Instance = TypeVar("_Instance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The types of notices that begin with one word and a dot.

    Attributes:
        types: after the dot; none where DingTalk makes the list.
        scopes: that an API key needs to subscribe to one of them.
        has_sender: whether its notices have the sender of a job, campaign or approval, which an
            endpoint filters by, and a key may be limited to.
        shared: beginnings of types without a sender that a key with a sender of its own may subscribe
            to as well. The others would show it what all senders do.
    """

    types: tuple[str, ...] = ()
    scopes: tuple[str, ...]
    has_sender: bool = False
    shared: tuple[str, ...] = ()


class Service(NamedTuple):
    """A service of the doors.

    Attributes:
        part: its class, which is made of resources that it names (`made_of`).
        closes: whether its `close` ends what it does beside requests.
    """

    part: Part
    closes: bool = False


def made_of(kind: Callable[..., _Instance], **resources: Any) -> _Instance:
    """An instance of a class, with those of the resources that it takes, by the names of its parameters."""
    names = signature(kind).parameters.keys() & resources.keys()
    return kind(**{name: resources[name] for name in names})


class Command(NamedTuple):
    """A command, or a group of them.

    Attributes:
        name: as it is typed.
        part: the function, or the group.
        panel: under which the help lists it.
    """

    name: str
    part: Part
    panel: str = "Operation"


class NounDuty(NamedTuple):
    """Work of which one worker of the fleet does all.

    Attributes:
        name: for logs and metrics.
        part: makes the work of `LeaderParts` and Redis's time. Loaded by the worker that leads.
        lease: under which it is done.
        wanted: of the settings: true where they ask for it.
    """

    name: str
    part: Part
    lease: Literal["work", "notices"] = "work"
    wanted: Callable[[Any], object] = bool


class Audited(NamedTuple):
    """A kind of objects in the audit.

    Attributes:
        kind: as `audit.service.record` names it.
        words: the same for people.
        page: the beginning of the path of an object's page in the console; empty for none.
        is_person: whether an object's id is a userid.
        states: state → its meaning.
        writers: the function of a visit and of ids → userids of those who wrote it, of each that exists.
        names: the function of a visit and of ids → name, of each that exists.
        names_say_kind: whether a name goes without the kind in front of it.
        ends: the function of a visit and of changes → number of a change → a sentence that says how its effect ended.
    """

    kind: str
    words: str
    page: str = ""
    is_person: bool = False
    states: Part = ""
    writers: Part = ""
    names: Part = ""
    names_say_kind: bool = False
    ends: Part = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """One noun, and all that others gather of it.

    Attributes:
        name: its folder.
        about: its sentence in the OpenAPI document; empty without routes of its own.
        scopes: scope of API keys → the least role in the console that has it.
        notices: first word of a type of notices → the family.
        tables: modules with tables.
        services: of the doors; the client's (`installed.py`) are made of settings alone.
        routes: of the gateway.
        pages: modules that declare pages and forms of the console.
        first_page: functions of a visit: what waits for its person, as path and sentence, for the first page.
        audited: kinds of objects in the audit.
        commands: of the command line.
        duties: of leaders.
        clean_up: deletes what is kept for a time only (`maintenance.clean_up`).
        messages: adds to the messages of a person what is no job (`history.service`).
        for_jobs: makes of database, Redis and settings what the noun's jobs use of it.
        personal_data: places with data of people, in the order in which a person is taken out of them.
        handovers: called as `directory.handovers.hand_over` once a directory knows no more whose userids were: ends what the
            noun keeps for who had them.
        backups: compares Redis with the database (`doctor.backups`).
    """

    name: str
    about: str = ""
    scopes: Mapping[str, Role] = field(default_factory=dict[str, Role])
    notices: Mapping[str, Family] = field(default_factory=dict[str, Family])
    tables: tuple[Part, ...] = ()
    services: tuple[Service, ...] = ()
    routes: tuple[Part, ...] = ()
    pages: tuple[Part, ...] = ()
    first_page: tuple[Part, ...] = ()
    audited: tuple[Audited, ...] = ()
    commands: tuple[Command, ...] = ()
    duties: tuple[NounDuty, ...] = ()
    clean_up: tuple[Part, ...] = ()
    messages: tuple[Part, ...] = ()
    for_jobs: tuple[Part, ...] = ()
    personal_data: tuple[Part, ...] = ()
    handovers: tuple[Part, ...] = ()
    backups: tuple[Part, ...] = ()

    @property
    def folder(self) -> Path:
        """Its folder."""
        return Path(__file__).parent / self.name

    def load(self, part: Part) -> Any:
        """The object that a part names."""
        return resolve_name(f"dingrelay_workers.{self.name}.{part}")
