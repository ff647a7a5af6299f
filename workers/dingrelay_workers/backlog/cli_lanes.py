"""``dingrelay lane``: lanes, and senders in them, that are paused."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.output import Column, print_result, print_table
from dingrelay_producers.cli.verbs import VerbCommands, carry_out_in_redis, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.lanes import Pause
    from dingrelay_producers.client.verbs import Verb

LaneName = Annotated[
    str,
    typer.Argument(
        metavar="LANE",
        help="Such as hr:bulk, hr:bulk:payroll for one sender's jobs, hr:all for all lanes.",
    ),
]


def _carry_out(noun: Any, verb: "Verb", lane: str, *said: Any) -> None:
    pause = carry_out_in_redis(noun, verb, lane, *said)
    if pause is None:
        print_result({"id": lane}, lambda: translated(verb.done))
    else:
        print_pauses([pause])


app = noun_app(
    VerbCommands("dingrelay_producers.client.lanes:Lanes", ("lane", LaneName), _carry_out),
    "Pause the jobs of a lane, or of a sender in it, and resume them.",
)


@app.command("list")
def list_() -> None:
    """List the lanes and senders that are paused, the latest first."""
    from dingrelay_producers import running
    from dingrelay_producers.client.connection import ClientConnection
    from dingrelay_producers.client.lanes import Lanes

    connection = ClientConnection(running.settings())
    try:
        print_pauses(connection.carry_out(Lanes().paused()))
    finally:
        connection.close()


def print_pauses(pauses: "list[Pause]") -> None:
    """Print the pauses."""
    print_result(pauses, lambda: _print_table(pauses))


def _print_table(pauses: "list[Pause]") -> None:
    print_table(
        pauses,
        Column("lane", lambda pause: pause.id),
        Column("paused by", lambda pause: pause.by, rank=1),
        Column("since", lambda pause: local(pause.since), rank=2),
        Column("until", lambda pause: local(pause.until)),
        Column("reason", lambda pause: pause.reason, rank=3, cut=True),
        empty=tr("nothing is paused"),
    )
