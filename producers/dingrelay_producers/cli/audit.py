"""Writes into the audit what a command is about to change in Redis."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dingrelay_producers.cli.output import note
from dingrelay_producers.errors import NotInstalled, ServiceUnavailable
from dingrelay_producers.language import tr, translated

if TYPE_CHECKING:
    from dingrelay_producers.client.client import Client


def note_in_audit(
    client: "Client",
    action: str,
    kind: str,
    names: Sequence[str],
    *,
    app: str | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Write down that this is done to these objects now. Without a database the command goes on: Redis has the jobs."""
    from dingrelay_producers.client.in_threads import run
    from dingrelay_producers.installed import service

    try:
        audit = service("audit", client.settings)
        run(audit.note(action, kind, names, app=app or "", before=before, after=after))
    except NotInstalled:  # such an install has no database
        return
    except ServiceUnavailable as error:
        note(tr("not in the audit: {error}", error=translated(str(error))), style="yellow")
