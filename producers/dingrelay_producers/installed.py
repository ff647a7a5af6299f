"""The services of the extra ``worker``: what they keep is in SQL, whose libraries a producer need not have."""

from importlib import import_module
from typing import Any, Literal

from dingrelay_producers.errors import NotInstalled
from dingrelay_producers.settings import Settings

ServiceName = Literal[
    "ApprovalService",
    "AuditService",
    "CampaignService",
    "HistoryService",
    "MessageTemplates",
    "PersonalDataService",
]
"""A class of the workers' package, made of settings alone."""


def service(name: ServiceName, settings: Settings) -> Any:
    """This service of the workers' package, on the database of these settings.

    The arrow between the packages leads the other way, so it is imported when it is first needed.

    Raises:
        NotInstalled: the extra ``worker`` is not installed.
    """
    try:
        nouns = import_module("dingrelay_workers.nouns").NOUNS
        (kind,) = (
            noun.load(part)
            for noun in nouns
            for part, *_ in noun.services
            if part.endswith(f":{name}")
        )
    except ModuleNotFoundError as error:
        raise NotInstalled("worker") from error
    return kind(settings)
