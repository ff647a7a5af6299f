"""Notices to business applications: endpoints, deliveries, and their administration."""

from dingrelay_workers.noun import Audited, Command, Family, Noun, NounDuty, Service

NOUN = Noun(
    name="webhooks",
    about="Endpoints that receive notices of what happens.",
    scopes={"webhooks:read": "view", "webhooks:write": "operate"},
    notices={
        "job": Family(
            types=("done", "dead", "unknown", "duplicate", "expired", "cancelled"),
            scopes=("jobs:read",),
            has_sender=True,
        ),
        # It names the person who wrote, and is the content of a job.
        "robot": Family(types=("message",), scopes=("directory:read", "jobs:read")),
        # DingTalk's own events hold people, departments and approvals; these ones no approvals.
        "dingtalk": Family(
            scopes=("directory:read", "approvals:read"),
            shared=("dingtalk.user_", "dingtalk.org_"),
        ),
    },
    services=(Service("service:WebhookService"),),
    routes=("routes:ROUTES",),
    pages=("console_routes",),
    first_page=("console_routes:refusing",),
    commands=(Command("webhook", "cli:app"),),
    duties=(NounDuty("webhooks", "dispatcher:of_leader", lease="notices"),),
    personal_data=("personal_data:PERSONAL_DATA",),
    audited=(Audited("webhook", "Webhook", "/webhooks/", names="console_routes:names_of"),),
)
