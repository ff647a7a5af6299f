"""The organisation in SQL."""

from operator import attrgetter

from dingrelay_workers.noun import Family, Noun, NounDuty, Service

NOUN = Noun(
    name="directory",
    about="The organisation as of the last user-sync and the events since.",
    scopes={"directory:read": "view"},
    notices={
        "directory": Family(
            types=(
                "user.added",
                "user.changed",
                "user.left",
                "department.added",
                "department.changed",
                "department.removed",
            ),
            scopes=("directory:read",),
            shared=("directory.",),
        ),
    },
    tables=("models",),
    services=(Service("service:DirectoryService"),),
    routes=("routes:ROUTES",),
    duties=(NounDuty("syncs", "sync_schedule:of_leader", wanted=attrgetter("sync.every")),),
    clean_up=("retention:clean_up",),
    for_jobs=("store:for_jobs",),
    personal_data=("personal_data:PERSONAL_DATA",),
)
