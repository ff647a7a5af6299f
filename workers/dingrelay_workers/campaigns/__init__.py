"""Broadcasts to any number of people."""

from dingrelay_tasks.sentence import en
from dingrelay_workers.noun import Audited, Command, Family, Noun, NounDuty, Service

NOUN = Noun(
    name="campaigns",
    about="One message to very many people.",
    scopes={
        "campaigns:read": "view",
        "campaigns:write": "write",
        "campaigns:approve": "approve",
    },
    notices={
        "campaign": Family(
            types=("started", "paused", "resumed", "completed", "cancelled"),
            scopes=("campaigns:read",),
            has_sender=True,
        ),
    },
    tables=("models",),
    services=(
        Service("service:CampaignService"),
        Service("drafts:Drafts"),
        Service("pictures:Pictures"),
        Service("message_templates:MessageTemplates"),
    ),
    routes=("routes:ROUTES", "draft_routes:ROUTES"),
    pages=("console_routes", "draft_console_routes", "template_console_routes"),
    first_page=(
        "console_routes:waiting_reviews",
        "console_routes:decided_reviews",
        "console_routes:scheduled",
    ),
    commands=(
        Command("campaign", "cli:app", "Campaigns"),
        Command("template", "cli_templates:app", "Campaigns"),
    ),
    duties=(NounDuty("campaigns", "dispatcher:of_leader"),),
    clean_up=("drafts:clean_up", "pictures:clean_up", "removal:clean_up"),
    messages=("messages:add_campaigns",),
    for_jobs=("calls:for_jobs",),
    personal_data=("personal_data:PERSONAL_DATA", "drafts_personal_data:PERSONAL_DATA"),
    backups=("backups:compare",),
    audited=(
        Audited(
            "campaign",
            en("broadcast"),
            "/campaigns/",
            states="console_routes:OF_CAMPAIGN",
            writers="console_routes:writers_of",
            names="console_routes:names_of",
        ),
        Audited("template", en("template")),
    ),
)
