"""A verb that is declared is a command, without a line written for it."""

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.main import get_command
from typer.testing import CliRunner

from dingrelay_producers.cli import app, verbs
from dingrelay_producers.cli.options import filtered_by
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.client.verbs import Question, Verb, verb, verbs_of
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import Document, Moment, UserId


class Repainting(Document):
    """How a boat is painted."""

    colour: Annotated[Literal["red", "blue"], Asked("Its new colour.", argument=True)]
    by: Annotated[UserId, Asked("The painter.")]
    coats: int = Field(default=1, ge=1, le=3, description="How often.")
    names: list[str] = Field(default_factory=list)
    finished_by: Moment | None = None
    quick: bool = False


class Boats:
    NOUN = "boat"

    @verb("POST /v1/boats/{id}/paint", scope="boats:write")
    def paint(self, boat: str, request: Repainting) -> None:
        """Paint a boat.

        While it is ashore.
        """

    @verb(
        "POST /v1/boats/{id}/sink",
        scope="boats:write",
        question=Question("Sink this boat?", "Sink it", "It is gone then."),
        done="It is gone.",
    )
    def sink(self, boat: str, why: Annotated[str | None, Asked("The reason.")] = None) -> None:
        """Sink a boat."""

    @verb("POST /v1/boats", scope="boats:write")
    def build(self) -> None:
        """Build a boat."""


@pytest.fixture
def carried_out() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def run(carried_out: list[tuple[Any, ...]]) -> Any:
    def carry_out(noun: type, verb: Verb, *arguments: Any, **more: Any) -> None:
        assert noun is Boats
        carried_out.append((verb.name, *arguments, *more.values()))

    argument = "boat", Annotated[str, typer.Argument(help="Its name.")]
    boats = noun_app(
        VerbCommands(f"{__name__}:Boats", argument, carry_out, about="Ahoy."), "Boats."
    )

    @boats.command()
    def build() -> None:
        """Build a boat by hand."""
        carried_out.append(("by hand",))

    root = typer.Typer()
    root.add_typer(boats, name="boat")
    return lambda *arguments, stdin="": CliRunner().invoke(root, ["boat", *arguments], input=stdin)


def test_a_verb_has_a_command_with_what_is_said_with_it(
    run: Any, carried_out: list[tuple[Any, ...]]
) -> None:
    shown = run("--help").stdout
    assert [shown.count(text) for text in ("Paint a boat.", "Sink a boat.")] == [1, 1]
    shown = run("paint", "--help").stdout
    for text in ("While it is ashore.", "Ahoy.", "Its new colour.", "The painter.", "How often."):
        assert text in shown
    more = ["--names", "a,b", "--names", "c", "--quick", "--finished-by", "2100-01-31T09:00Z"]
    assert run("paint", "b1", "red", "--by", "u1", "--coats", "2", *more).exit_code == 0
    assert run("paint", "b2", "blue", "--by", "u1").exit_code == 0
    (_, first, request), second = carried_out
    assert (first, request.model_dump(mode="json", exclude_none=True)) == (
        "b1",
        {
            "colour": "red",
            "by": "u1",
            "coats": 2,
            "names": ["a", "b", "c"],
            "finished_by": request.finished_by.isoformat(),
            "quick": True,
        },
    )
    assert second == ("paint", "b2", Repainting(colour="blue", by="u1"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["paint", "b1", "red", "--by", "u1", "--coats", "4"], "--coats"),
        (["paint", "b1", "red", "--by", "u1", "--finished-by", "2001-01-31"], "is over"),
        (["sail", "b1"], "sail"),
    ],
)
def test_an_error_names_the_option(
    arguments: list[str], error: str, run: Any, carried_out: list[tuple[Any, ...]]
) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, error in refused.stderr, carried_out) == (2, True, [])


def test_what_the_console_asks_is_asked_on_a_terminal(
    run: Any, carried_out: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sink", "b1").exit_code == 0
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(verbs, "sys", terminal)
    refused = run("sink", "b2", stdin="n\n")
    assert (refused.exit_code, "Sink this boat? It is gone then." in refused.stderr) == (1, True)
    assert run("sink", "b3", stdin="y\n").exit_code == 0
    assert run("sink", "b4", "--yes", "--why", "rotten").exit_code == 0
    assert [each[1:] for each in carried_out] == [("b1", None), ("b3", None), ("b4", "rotten")]


def test_no_two_options_of_a_command_are_called_alike() -> None:
    def check(command: Any, path: str) -> None:
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            check(command.get_command(None, name), f"{path} {name}")
        parameters = command.get_params(typer.Context(command))
        names = [name for each in parameters for name in (*each.opts, *each.secondary_opts)]
        assert len(names) == len({*names}), path

    check(get_command(app), "dingrelay")


def test_a_list_has_the_options_of_its_filter_whatever_it_calls_it() -> None:
    seen: list[tuple[AuditFilter, int]] = []
    lists = typer.Typer()

    @lists.command()
    @filtered_by(AuditFilter)
    def changes(wanted: AuditFilter, limit: int = 5) -> None:
        seen.append((wanted, limit))

    assert CliRunner().invoke(lists, ["--kind", "job", "--limit", "3"]).exit_code == 0
    assert CliRunner().invoke(lists, []).exit_code == 0
    assert seen == [(AuditFilter(kind="job"), 3), (AuditFilter(), 5)]


def test_a_command_by_hand_stays(run: Any, carried_out: list[tuple[Any, ...]]) -> None:
    assert {each.name for each in verbs_of(Boats)} == {"paint", "sink", "build"}
    assert run("build").exit_code == 0
    assert carried_out == [("by hand",)]
