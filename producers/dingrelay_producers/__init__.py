"""The producers: the client, the command line, and the record of jobs.

Each name is loaded when it is first used, so that the command line can show its help without the
clients of Redis and Celery.
"""

from typing import TYPE_CHECKING

from dingrelay_tasks.lazy_names import lazy_names

if TYPE_CHECKING:
    from dingrelay_producers.client.approvals import (
        ApprovalRef,
        ApprovalStatus,
        ApprovalTaskStatus,
        AsyncApprovalRef,
    )
    from dingrelay_producers.client.async_client import AsyncClient
    from dingrelay_producers.client.campaign_documents import (
        CampaignPreview,
        CampaignStatus,
        MessageTemplate,
    )
    from dingrelay_producers.client.campaigns import (
        AsyncCampaignPlan,
        AsyncCampaignRef,
        CampaignPlan,
        CampaignRef,
    )
    from dingrelay_producers.client.client import Client
    from dingrelay_producers.client.job_ref import AsyncJobRef, JobRef
    from dingrelay_producers.client.media import Medium
    from dingrelay_producers.errors import (
        ApprovalNotFound,
        CampaignConflict,
        CampaignNotFound,
        CannotResolve,
        DingrelayError,
        IdempotencyConflict,
        InvalidArgument,
        JobNotFound,
        NotInstalled,
        ServiceUnavailable,
        TemplateConflict,
        TemplateNotFound,
        UnreadableRecord,
        UploadFailed,
        WaitTimeout,
    )
    from dingrelay_producers.settings import AppSettings, Settings, SettingsError
    from dingrelay_producers.store.states import CampaignState, State
    from dingrelay_producers.store.status import JobError, JobStatus

__all__ = [
    "AppSettings",
    "ApprovalNotFound",
    "ApprovalRef",
    "ApprovalStatus",
    "ApprovalTaskStatus",
    "AsyncApprovalRef",
    "AsyncCampaignPlan",
    "AsyncCampaignRef",
    "AsyncClient",
    "AsyncJobRef",
    "CampaignConflict",
    "CampaignNotFound",
    "CampaignPlan",
    "CampaignPreview",
    "CampaignRef",
    "CampaignState",
    "CampaignStatus",
    "CannotResolve",
    "Client",
    "DingrelayError",
    "IdempotencyConflict",
    "InvalidArgument",
    "JobError",
    "JobNotFound",
    "JobRef",
    "JobStatus",
    "Medium",
    "MessageTemplate",
    "NotInstalled",
    "ServiceUnavailable",
    "Settings",
    "SettingsError",
    "State",
    "TemplateConflict",
    "TemplateNotFound",
    "UnreadableRecord",
    "UploadFailed",
    "WaitTimeout",
]

_MODULES = {
    "client.approvals": (
        "ApprovalRef",
        "ApprovalStatus",
        "ApprovalTaskStatus",
        "AsyncApprovalRef",
    ),
    "client.async_client": ("AsyncClient",),
    "client.campaign_documents": ("CampaignPreview", "CampaignStatus", "MessageTemplate"),
    "client.campaigns": ("AsyncCampaignPlan", "AsyncCampaignRef", "CampaignPlan", "CampaignRef"),
    "client.client": ("Client",),
    "client.job_ref": ("AsyncJobRef", "JobRef"),
    "client.media": ("Medium",),
    "errors": (
        "ApprovalNotFound",
        "CampaignConflict",
        "CampaignNotFound",
        "CannotResolve",
        "DingrelayError",
        "IdempotencyConflict",
        "InvalidArgument",
        "JobNotFound",
        "NotInstalled",
        "ServiceUnavailable",
        "TemplateConflict",
        "TemplateNotFound",
        "UnreadableRecord",
        "UploadFailed",
        "WaitTimeout",
    ),
    "settings": ("AppSettings", "Settings", "SettingsError"),
    "store.states": ("CampaignState", "State"),
    "store.status": ("JobError", "JobStatus"),
}
__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
