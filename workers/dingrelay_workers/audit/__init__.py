"""The audit: who changed what, through which door."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Command, Noun, Service

NOUN = Noun(
    name="audit",
    about="Audit of changes.",
    scopes={"audit:read": "operate"},
    tables=("models",),
    services=(Service("service:AuditService"),),
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    commands=(Command("audit", "cli:app"),),
    clean_up=("service:clean_up",),
    personal_data=("personal_data:PERSONAL_DATA",),
    audited=(Audited("audit", en("audit")),),
)
