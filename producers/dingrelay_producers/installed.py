"""The services of the extra ``worker``: what they keep is in SQL, whose libraries a producer need not have."""

from importlib import import_module
from typing import Any, Literal

from dingrelay_producers.errors import NotInstalled
from dingrelay_producers.settings import Settings

ServiceName = Literal["approvals", "audit", "campaigns", "history", "personal_data"]

_SERVICES: dict[ServiceName, tuple[str, str]] = {
    "approvals": ("dingrelay_workers.approvals.service", "ApprovalService"),
    "audit": ("dingrelay_workers.audit.service", "AuditService"),
    "campaigns": ("dingrelay_workers.campaigns.service", "CampaignService"),
    "history": ("dingrelay_workers.history.service", "HistoryService"),
    "personal_data": ("dingrelay_workers.personal_data.service", "PersonalDataService"),
}


def service(name: ServiceName, settings: Settings) -> Any:
    """This service of the workers' package, on the database of these settings.

    The arrow between the packages leads the other way, so it is imported when it is first needed.

    Raises:
        NotInstalled: the extra ``worker`` is not installed.
    """
    module, kind = _SERVICES[name]
    try:
        return getattr(import_module(module), kind)(settings)
    except ModuleNotFoundError as error:
        raise NotInstalled("worker") from error
