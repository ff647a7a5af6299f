"""The command that starts the sandbox."""

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command ``sandbox``."""
    app.command(name="sandbox", rich_help_panel="Operation")(sandbox)


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8_601,
    users: Annotated[int, typer.Option(min=0, help="People in the organisation.")] = 2_000,
    departments: Annotated[int, typer.Option(min=1, help="Departments.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed makes the same people.")] = 1,
    calls: Annotated[str, typer.Option(help="Calls per app and API; empty: no limit.")] = "20/1s",
    window: Annotated[str, typer.Option(help="calendar, sliding or bucket.")] = "calendar",
    latency: Annotated[str, typer.Option(help="Milliseconds each way.")] = "5-30",
    app_key: Annotated[str, typer.Option(help="Key of the app.")] = "sandbox-key",
    app_secret: Annotated[str, typer.Option(help="Secret of the app.")] = "sandbox-secret",
    agent_id: Annotated[str, typer.Option(help="Agent id of the app.")] = "1000001",
    apps: Annotated[
        str,
        typer.Option(
            envvar="DINGRELAY_SANDBOX_APPS",
            help="More apps: a JSON list of what POST apps takes.",
        ),
    ] = "[]",
    throttle_code: Annotated[
        str, typer.Option(help="Code of the answer to a call too many, such as 43004.")
    ] = "",
    quota: Annotated[
        int | None, typer.Option(min=0, help="Calls per month; none counts only.")
    ] = None,
    delivery_scale: Annotated[
        float,
        typer.Option(help="Factor for the pauses between two pushes of an event."),
    ] = 1,
) -> None:
    """Run a DingTalk on this machine, for development and tests."""
    # Here, so that the help of the whole command line does not wait for them.
    from dingrelay_sandbox.apps import App
    from dingrelay_sandbox.limits import DeliveryTimes, Latency, Limits
    from dingrelay_sandbox.server import run
    from dingrelay_sandbox.state import Start
    from dingrelay_sandbox.windows import Rate

    try:
        limits = Limits().changed(
            {
                "calls": Rate.parse(calls) if calls else None,
                "window": window,
                "throttle_code": throttle_code,
                "quota": quota,
            }
        )
        start = Start(
            users=users,
            departments=departments,
            seed=seed,
            limits=limits,
            latency=Latency.parse(latency),
            app=App(app_key=app_key, app_secret=app_secret, agent_id=agent_id),
            delivery_times=DeliveryTimes(scale=delivery_scale),
            more_apps=tuple(App.model_validate(each) for each in json.loads(apps)),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        run(start, host, port)
    except OSError as error:
        # Quoted as the command line knows it in errors of its own.
        problem = f"'{host}:{port}': {error.strerror}"
        raise typer.BadParameter(problem, param_hint="--host, --port") from None
