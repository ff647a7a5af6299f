"""``dingrelay template``: messages that are kept under a name."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.output import Column, page_of, print_result, print_table
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from rich.table import Table

    from dingrelay_producers.client.campaign_documents import MessageTemplate
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.campaigns.message_templates import MessageTemplates

Id = Annotated[str, typer.Argument(metavar="ID", help="The template's id.")]


def _templates() -> "MessageTemplates":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.message_templates import MessageTemplates

    return MessageTemplates(Settings.load())


def _carry_out(noun: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.cli_services import carry_out

    template = carry_out(noun, verb, *arguments)
    if template is None:
        document = {"id": arguments[0], "state": "deleted"}
        print_result(document, lambda: translated(verb.done))
    else:
        print_result(template, lambda: _page(template))


app = noun_app(
    VerbCommands(
        "dingrelay_workers.campaigns.message_templates:MessageTemplates",
        ("template", Id),
        _carry_out,
        more={"keep": ("app", "sender")},
    ),
    "Keep messages under a name, from which campaigns are begun.",
)


@app.command("list")
def list_() -> None:
    """List the templates, by name."""
    templates = asyncio.run(_templates().list())
    print_result(
        templates,
        lambda: print_table(
            templates,
            Column("name", lambda row: row.name, cut=True),
            Column("id", lambda row: row.id),
            Column("app", lambda row: row.app, rank=2),
            Column("sender", lambda row: row.sender, rank=4),
            Column("by", lambda row: row.kept_by, rank=3),
            Column("at", lambda row: local(row.kept_at) if row.kept_at else "", rank=1),
        ),
    )


@app.command()
def show(template: Id) -> None:
    """Show a template: its message, its revision, and who kept it."""
    shown = asyncio.run(_templates().get(template))
    print_result(shown, lambda: _page(shown))


def _page(template: "MessageTemplate") -> "Table":
    return page_of(
        (tr("id"), template.id),
        (tr("name"), template.name),
        (tr("app"), template.app),
        (tr("sender"), template.sender),
        (tr("revision"), template.revision),
        (tr("by"), template.kept_by),
        (tr("at"), template.kept_at),
        (tr("message"), json.dumps(template.message, ensure_ascii=False, indent=2)),
    )
