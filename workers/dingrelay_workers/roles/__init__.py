"""Roles of people: what each may do in the console."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Noun, Service

NOUN = Noun(
    name="roles",
    tables=("models",),
    services=(Service("service:RoleService"),),
    pages=("console_routes",),
    personal_data=("personal_data:PERSONAL_DATA",),
    handovers=("handovers:revoke",),
    audited=(Audited("role", en("role"), is_person=True),),
)
