"""Checks of an approval before it is created."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Family, Noun, Service

NOUN = Noun(
    name="approvals",
    about="States of approvals, and actions on them.",
    scopes={"approvals:read": "view", "approvals:write": "operate"},
    notices={
        "approval": Family(
            types=("approved", "refused", "terminated", "deleted", "task"),
            scopes=("approvals:read",),
            has_sender=True,
        ),
    },
    tables=("models",),
    services=(Service("service:ApprovalService"),),
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    personal_data=("personal_data:PERSONAL_DATA",),
    audited=(Audited("approval", en("approval")),),
)
