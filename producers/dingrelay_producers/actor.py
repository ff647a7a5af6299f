"""The actor of a change and its door: set where a request comes in, read where the change is audited."""

import os
import socket
from contextvars import ContextVar
from typing import Literal, NamedTuple

Door = Literal["console", "http", "cli", "python"]


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
        reads_directory: whether people's data may be shown to the actor: a key needs a scope for it.
    """

    door: Door
    id: str
    name: str = ""
    role: str = ""
    request: str = ""
    reason: str = ""
    person: str = ""
    reads_directory: bool = True


ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)
"""The actor of the request or command that is carried out; None in a program that uses the client."""


def current_actor() -> Actor:
    """The actor of the current task."""
    return ACTOR.get() or Actor("python", system_user())


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
