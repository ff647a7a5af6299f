"""Waiting jobs and the time they take: counted by application, lane, kind and sender."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Command, Noun

NOUN = Noun(
    name="backlog",
    scopes={"limits:read": "view", "limits:write": "operate"},
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    personal_data=("personal_data:PERSONAL_DATA",),
    audited=(
        Audited(
            "lane",
            en("lane"),
            names="console_routes:names_of_lanes",
            names_say_kind=True,
            ends="console_routes:ends_of_pauses",
        ),
    ),
    commands=(
        Command("queue", "cli:queue"),
        Command("lane", "cli_lanes:app"),
        Command("limits", "cli:limits"),
    ),
)
