"""``dingrelay robots``: the robots and groups of the settings."""

from typing import Any

from dingrelay_producers.cli.output import Column, print_result, print_table


def robots() -> None:
    """Show the robots and groups of the settings.

    dingrelay send --group or --robot posts by them.
    """
    from dingrelay_producers import running

    settings = running.settings()
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": robot.kind,
            "signs": bool(robot.secret.get_secret_value()),
            "app": robot.app,
            "groups": [group for group, own in settings.groups.items() if name in own.robots],
        }
        for name, robot in sorted(settings.robots.items())
    ]
    print_result(
        {"robots": found},
        lambda: print_table(
            found,
            Column("name", lambda each: each["name"]),
            Column("kind", lambda each: each["kind"]),
            Column("groups", lambda each: ", ".join(each["groups"])),
        ),
    )
