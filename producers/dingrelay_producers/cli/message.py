"""``dingrelay message``: what can still be done about messages that were sent."""

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.job import JobId

app = typer.Typer(help="Take back messages.", no_args_is_help=True)


@app.callback()
def message() -> None:
    """Take back messages."""


@app.command()
def recall(
    job_id: JobId,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Take back a message of the last 24 hours.

    Calls that carried other messages like it, to other people, are left as they are.
    """
    from dingrelay_producers.cli.enqueue import show_accepted
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
        ref = client.recall(job_id)
        show_accepted(ref, f"message-recall {job_id}", wait=wait, timeout=timeout, as_json=as_json)
