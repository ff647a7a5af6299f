"""``dingrelay call``: one call of any API of DingTalk's."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.documents import read_json, read_moment, read_pair


def call(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH, DELETE.")],
    path: Annotated[
        str, typer.Argument(metavar="/PATH", help="On one of DingTalk's hosts; never a URL.")
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the URL; repeatable."),
    ] = None,
    body: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|@-", help="What is sent as JSON."),
    ] = None,
    effect: Annotated[
        Literal["none", "repeatable", "once"] | None,
        typer.Option(
            help="What the call does; `once` is not repeated if its answer is lost. "
            "Default: none where it reads, else once."
        ),
    ] = None,
    lane: options.Lane = "normal",
    app: options.App = "default",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Call any API of DingTalk's, under its limits and with the app's token.

    dingrelay call POST /topapi/v2/user/getbymobile --body '{"mobile": "13800000000"}' --wait
    """
    from dingrelay_producers.cli.enqueue import enqueue
    from dingrelay_tasks.api_call import ApiCall

    job = ApiCall.parse(
        {
            "app": app,
            "lane": lane,
            "method": method.upper(),
            "path": path,
            "query": dict(read_pair(text, "=", "NAME=VALUE", "--query") for text in query or []),
            "body": None if body is None else read_json(body, "--body"),
            **({} if effect is None else {"effect": effect}),
            "idempotency_key": key,
            "send_at": read_moment(at, "--at"),
            "expires_at": read_moment(expires, "--expires"),
        }
    )
    enqueue(job, wait=wait, timeout=timeout, as_json=as_json)
