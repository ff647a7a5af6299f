"""Options that several commands share."""

from typing import Annotated, Literal

import typer

LaneName = Literal["urgent", "normal", "bulk"]

App = Annotated[str, typer.Option(help="The DingTalk application, by its name in the settings.")]
Lane = Annotated[LaneName, typer.Option(help="Who goes first when a limit is reached.")]
Key = Annotated[
    str | None, typer.Option(help="Idempotency key: the same key never makes a second job.")
]
At = Annotated[str | None, typer.Option(help="Not before: 2026-01-31T09:00, or +10m from now.")]
Expires = Annotated[str | None, typer.Option(help="Not after: as --at.")]
Sender = Annotated[
    str, typer.Option(help="On whose behalf: a lane's waiting jobs are shared fairly by sender.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end of the job.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
