"""What a job's body may ask of the machinery that runs it: a protocol for each subject.

The bodies in this package know these protocols and nothing else: no HTTP, no Redis, no SQL. The
limits, the token, the retries and the redaction are behind them.
"""

from dingrelay_tasks.context.apis import Apis
from dingrelay_tasks.context.approval_states import (
    ApprovalChange,
    ApprovalState,
    ApprovalStates,
    ApprovalTask,
    Followed,
    TaskState,
)
from dingrelay_tasks.context.approvals import Approvals, Candidate, Found
from dingrelay_tasks.context.campaigns import CampaignCall, Campaigns
from dingrelay_tasks.context.contacts import Contacts, ContactScope, Department, Member
from dingrelay_tasks.context.context import Context, Intent
from dingrelay_tasks.context.directory import Directory, Progress, Unmet
from dingrelay_tasks.context.events import Events, MissedPage
from dingrelay_tasks.context.media import Media
from dingrelay_tasks.context.messages import (
    DailyVerdict,
    DeliveryReport,
    Messages,
    RecipientVerdict,
    SentCall,
)
from dingrelay_tasks.context.personal_data import Pass, PersonalData
from dingrelay_tasks.context.robots import Robots
from dingrelay_tasks.names import Json

__all__ = [
    "Apis",
    "ApprovalChange",
    "ApprovalState",
    "ApprovalStates",
    "ApprovalTask",
    "Approvals",
    "CampaignCall",
    "Campaigns",
    "Candidate",
    "ContactScope",
    "Contacts",
    "Context",
    "DailyVerdict",
    "DeliveryReport",
    "Department",
    "Directory",
    "Events",
    "Followed",
    "Found",
    "Intent",
    "Json",
    "Media",
    "Member",
    "Messages",
    "MissedPage",
    "Pass",
    "PersonalData",
    "Progress",
    "RecipientVerdict",
    "Robots",
    "SentCall",
    "TaskState",
    "Unmet",
]
