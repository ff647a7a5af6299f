"""API keys of the HTTP gateway: who has one, what it may do, and how often."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Command, Noun, Service

NOUN = Noun(
    name="keys",
    about="API keys of programs.",
    scopes={"keys:write": "admin"},
    tables=("models",),
    services=(
        Service("service:KeyService", closes=True),
        Service("rates:KeyRates"),
    ),
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    commands=(Command("key", "cli:app"),),
    personal_data=("personal_data:ANSWERS", "personal_data:KEYS"),
    handovers=("handovers:disown",),
    audited=(Audited("key", en("API key"), names="console_routes:names_of"),),
)
