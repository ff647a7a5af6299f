"""The actor of a change and its door: set where a request comes in, read where the change is audited."""

import logging
import os
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from dingrelay_producers.errors import NotPermitted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic import SecretBytes

    from dingrelay_tasks.contract import Contract

Door = Literal["console", "http", "cli", "python"]


SHELL = "shell "
"""Prefix of a user of the operating system among humans; no userid has a blank."""


def _log_unaudited(reason: str) -> None:
    logging.getLogger("dingrelay.audit").warning("not in the audit: %s", reason)


class Reach:
    """Permissions of an actor: everything, for a shell and a program. Doors with permissions have others."""

    sees_all: ClassVar[bool] = True
    """Whether nothing is hidden from the actor, so that an answer may name what belongs to others."""

    @property
    def default_sender(self) -> str:
        """The sender of the actor's jobs that name none; "" leaves it to the settings."""
        return ""

    def reaches(
        self, scope: str, *, app: str, sender: str = "", lane: str = "", target: str = ""
    ) -> bool:
        """Whether something of this app, sender, lane and target is the actor's to see or change by this scope.

        The sender ``*`` is that of something which may be anybody's. Without a lane it is reached in any.
        """
        return True

    def refusal(
        self, scope: str, *, app: str, lane: str = "", sender: str = "", target: str = ""
    ) -> tuple[str, str] | None:
        """The field of something that the actor may not ask for, and why; None if they may. No lane: any; no sender: the default."""
        return None

    def check(self, scope: str, *, app: str, lane: str = "", sender: str = "") -> None:
        """Refuse what the actor may not ask for, as `refusal` says.

        Raises:
            NotPermitted: names the field.
        """
        if refusal := self.refusal(scope, app=app, lane=lane, sender=sender):
            raise NotPermitted(*refusal)

    def reaches_app(self, scope: str, app: str) -> bool:
        """Whether what an app has and no sender, such as its directory, is the actor's by this scope."""
        return self.permits(scope) and app in self.sees(scope).get("app", (app,))

    def sees(self, scope: str) -> "Mapping[str, Collection[str]]":
        """Field → the values that it may have of jobs that `reaches` may allow; one that is missing may have any."""
        return {}

    def permits(self, scope: str) -> bool:
        """Whether the actor may do anything at all by this scope."""
        return True

    def job_refusal(self, job: "Contract", sender: str) -> tuple[str, str] | None:
        """The same of a whole job; the field is "" where it is about none. `sender`: of jobs that name none."""
        return None

    def approvals_of(self, job: "Contract") -> "Collection[str]":
        """Approvals that a job names, each of which must be of one of the actor's senders."""
        return ()

    def permits_lane(self, lane: str) -> bool:
        """Whether the actor may have a job go in this lane."""
        return True

    def permits_sender(self, sender: str) -> bool:
        """Whether the actor's jobs may name this sender, whose jobs are then theirs as well."""
        return True

    def sees_name(self, name: str) -> bool:
        """Whether the actor may be shown a name that workers serve, such as ``app:hr`` or ``group:oncall``."""
        return True

    def apps_of(self, scope: str) -> frozenset[str] | None:
        """Apps that are the actor's by this scope; None for all."""
        return None

    def holds(self, scope: str, permissions: Any) -> bool:
        """Whether the actor has these permissions (a `Grant`), by this scope: what has them is theirs to see."""
        return True

    def lacks(self, scope: str, permissions: Any) -> tuple[str, str] | None:
        """Excess of these permissions over the actor's, which may not give them: field and problem; None for none."""
        return None

    @property
    def passed_sender(self) -> str:
        """Sender of what the actor gives permissions without one; "" leaves it open."""
        return ""


EVERYTHING = Reach()


class Actor(NamedTuple):
    """The actor of a change.

    Attributes:
        door: through which the change is asked for.
        id: a person's userid, the id of an API key, or a user of the operating system with its host.
        name: of the person or the key; "" if not known.
        role: of the person; "" without roles.
        request: id of the request; "" for none.
        reason: that the person gives; "" for none.
        person: userid of the person who signed in, or who owns the key; "" of a shell, whose users the settings map to people.
        issuers: who made the key, or the link by which the person signed in, and so may act with it as well; as `hands`.
        reach: what the actor may see and change.
        seed: of the secrets that the request makes, so that a repetition makes the same; None for random ones.
        once: 32 hexadecimal digits from which follow the ids of what the request makes; "" for random ones.
        on_unaudited: receives the reason why a change that is made all the same is not in the audit.
    """

    door: Door
    id: str
    name: str = ""
    role: str = ""
    request: str = ""
    reason: str = ""
    person: str = ""
    issuers: "Sequence[str]" = ()
    reach: Reach = EVERYTHING
    seed: "SecretBytes | None" = None
    once: str = ""
    on_unaudited: Callable[[str], object] = _log_unaudited

    @property
    def hands(self) -> "Sequence[str]":
        """The humans who may be behind the change: userids, and of a shell ``shell USER@HOST``, which is no userid."""
        shell = f"{SHELL}{self.id}" if self.door in {"cli", "python"} else ""
        human = self.person or shell
        return [*filter(None, dict.fromkeys([human, *self.issuers]))]

    @property
    def reads_directory(self) -> bool:
        """Whether people's data may be shown to the actor: a key needs a scope for it."""
        return self.reach.permits("directory:read")

    @property
    def signature(self) -> str:
        """How records name the actor: a key by its name, everybody else by the id."""
        return self.name if self.door == "http" else self.id


ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)
"""The actor of the request or command that is carried out; None in a program that uses the client."""


def current_actor() -> Actor:
    """The actor of the current task."""
    return ACTOR.get() or Actor("python", system_user())


def current_reach() -> Reach:
    """Reach of the actor of the current task."""
    actor = ACTOR.get()
    return EVERYTHING if actor is None else actor.reach


def current_seed() -> bytes | None:
    """Seed of what the actor of the current task makes; None for none."""
    seed = current_actor().seed
    return None if seed is None else seed.get_secret_value()


def current_once() -> str:
    """Name from which follow the ids of what the request of the current task makes; "" for random ones."""
    actor = ACTOR.get()
    return "" if actor is None else actor.once


def system_user() -> str:
    """The user of the operating system, with its host.

    It is the one that the process runs as, whatever its environment says; a container's may have a number only.
    """
    import pwd  # noqa: PLC0415 - clients run where there is none

    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = f"uid:{user}"
    return f"{name}@{socket.gethostname()}"
