"""The nouns, with the declarations beside their tables. A program that walks the list knows no noun's tables."""

from collections.abc import Sequence

from dingrelay_workers.approvals import personal_data as approvals
from dingrelay_workers.audit import personal_data as audit
from dingrelay_workers.campaigns import drafts_personal_data as drafts
from dingrelay_workers.campaigns import personal_data as campaigns
from dingrelay_workers.directory import personal_data as directory
from dingrelay_workers.history import job_records
from dingrelay_workers.history import personal_data as history
from dingrelay_workers.keys import personal_data as keys
from dingrelay_workers.recipients import personal_data as recipients
from dingrelay_workers.roles import personal_data as roles
from dingrelay_workers.sessions import personal_data as sessions
from dingrelay_workers.subjects import PersonalData
from dingrelay_workers.webhooks import personal_data as webhooks

PERSONAL_DATA: Sequence[PersonalData] = (
    # Before the history, which is written from records: so what ended before the first is in neither after the last.
    job_records.PERSONAL_DATA,
    recipients.LIMITS,
    keys.ANSWERS,
    history.PERSONAL_DATA,
    campaigns.PERSONAL_DATA,
    drafts.PERSONAL_DATA,
    approvals.PERSONAL_DATA,
    webhooks.PERSONAL_DATA,
    audit.PERSONAL_DATA,
    keys.KEYS,
    roles.PERSONAL_DATA,
    sessions.PERSONAL_DATA,
    recipients.RANGES,
    recipients.SESSIONS,
    # Drafts name people as the directory has them, so it goes last.
    directory.PERSONAL_DATA,
)
"""Places with data of people, in the order in which a person is taken out of them."""
