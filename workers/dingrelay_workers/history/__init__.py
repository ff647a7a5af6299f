"""Ended jobs and their outcomes, in SQL: Redis keeps the open ones."""

from operator import attrgetter

from dingrelay_workers.noun import Noun, NounDuty, Service

NOUN = Noun(
    name="history",
    tables=("models",),
    services=(
        Service("service:HistoryService"),
        Service("quarters:QuarterService"),
    ),
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    duties=(
        NounDuty("history", "writer:of_leader", wanted=attrgetter("history.days")),
        NounDuty("quarters", "quarters:of_leader", wanted=attrgetter("history.days")),
    ),
    clean_up=("writer:clean_up", "quarters:clean_up"),
    for_jobs=("writer:for_jobs",),
    personal_data=("job_records:PERSONAL_DATA", "personal_data:PERSONAL_DATA"),
    backups=("backups:compare",),
)
