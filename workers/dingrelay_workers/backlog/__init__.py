"""Waiting jobs and the time they take: counted by application, lane, kind and sender."""

from dingrelay_workers.noun import Command, Noun

NOUN = Noun(
    name="backlog",
    scopes={"limits:read": "view"},
    routes=("routes:ROUTES",),
    commands=(Command("queue", "cli:queue"), Command("limits", "cli:limits")),
)
