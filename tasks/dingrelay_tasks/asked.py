"""How people are asked for a value of a document or a filter."""

from typing import NamedTuple

PERSON = "USER"
"""The metavar of a person: a command takes their name, too."""


class Asked(NamedTuple):
    """Marks a field that a caller may ask for: an argument of the client and an option of the command.

    Attributes:
        help: of the option.
        metavar: of its value.
        argument: whether the command takes it as an argument, behind what it is about.
        option: where it has another name, such as ``--scope`` of `scopes`.
        past: whether a moment lies in the past: ``2h`` is two hours ago.
    """

    help: str
    metavar: str | None = None
    argument: bool = False
    option: str = ""
    past: bool = False
