"""Who asks: the client, the command line, and the record of what was asked."""

from dingrelay_producers.client import AsyncClient, AsyncJobRef, Client, JobRef
from dingrelay_producers.errors import (
    DingrelayError,
    IdempotencyConflict,
    JobNotFound,
    ServiceUnavailable,
    WaitTimeout,
)
from dingrelay_producers.settings import AppSettings, Settings, SettingsError
from dingrelay_producers.states import State
from dingrelay_producers.status import JobError, JobStatus

__all__ = [
    "AppSettings",
    "AsyncClient",
    "AsyncJobRef",
    "Client",
    "DingrelayError",
    "IdempotencyConflict",
    "JobError",
    "JobNotFound",
    "JobRef",
    "JobStatus",
    "ServiceUnavailable",
    "Settings",
    "SettingsError",
    "State",
    "WaitTimeout",
]
