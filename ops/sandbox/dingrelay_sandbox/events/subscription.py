"""Which events an application has asked for (API §11.7)."""

from collections.abc import Sequence

from dingrelay_sandbox.events.event import Event

PATH = "/v1.0/event/"
"""A narrower choice starts so: ``/v1.0/event/{type}/processCode/{code}/type/{type}``."""


def wants(choices: Sequence[str], event: Event) -> bool:
    """Whether one of the choices is about this event; without any, all are."""
    return not choices or any(_fits(choice, event) for choice in choices)


def _fits(choice: str, event: Event) -> bool:
    if not choice.startswith(PATH):
        return choice == event.type
    kind, *pairs = choice.removeprefix(PATH).split("/")
    wanted = zip(pairs[::2], pairs[1::2], strict=False)
    return kind == event.type and all(
        str(event.fields.get(name)) == value.strip("{}") for name, value in wanted
    )
