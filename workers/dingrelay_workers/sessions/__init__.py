"""Sessions of the console, and links that begin one."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Noun, Service

NOUN = Noun(
    name="sessions",
    tables=("models",),
    services=(Service("service:SessionService"),),
    pages=("console_routes",),
    clean_up=("sessions:clean_up",),
    personal_data=("personal_data:PERSONAL_DATA",),
    handovers=("handovers:end",),
    audited=(
        Audited("login-link", en("login link"), is_person=True),
        Audited("session", en("session"), is_person=True),
    ),
)
