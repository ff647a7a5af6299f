"""Names of the apps, robots and groups that the workers serve: each worker publishes its own, doors refuse others.

A name counts for a week after a worker has published it last, so that nothing is refused while workers are away.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from time import monotonic
from typing import TYPE_CHECKING, cast

from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.robot_names import ROBOT_MESSAGE
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_tasks.robot_message import RobotMessage

FRESH_SECONDS = 60.0
"""For so long names that were read are taken for served."""
UNSEEN_SECONDS = 5.0
"""For so long nothing is refused where no worker had published anything."""
UNKNOWN_SECONDS = 0.25
"""For so long a name that was not among them is refused without another look."""
MOST_SHOWN = 10

Sees = Callable[[str], bool]
"""Whether a caller may be shown a name such as ``app:hr`` or ``group:oncall``."""


def app_name(app: str) -> str:
    """An app as it is published."""
    return f"app:{app}"


class ServedNames:
    """The names as they were read last, for one Redis. Reads nothing itself."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._names: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    @property
    def any_worker(self) -> bool:
        """Whether a worker has published what it serves; while none has, nothing is refused."""
        return bool(self._names)

    def begin(self) -> None:
        """Count those of before as new while they are read again, or can't be: one call in a while tries it."""
        self._read_at = self._clock()

    def keep(self, names: Iterable[bytes]) -> None:
        """Keep what was read: the fields of `keys.SERVED`."""
        self._names = frozenset(name.decode(errors="replace") for name in names)
        self._read_at = self._clock()

    def has(self, name: str) -> bool:
        """Whether a worker serves this name."""
        return name in self._names

    @property
    def may_refuse(self) -> bool:
        """Whether they are new enough to refuse what is not among them."""
        return self._clock() - self._read_at <= UNKNOWN_SECONDS

    def is_outdated(self, names: Iterable[tuple[str, str]]) -> bool:
        """Whether they must be read before these are checked."""
        if self._clock() - self._read_at > (FRESH_SECONDS if self._names else UNSEEN_SECONDS):
            return True
        for _, name in names:
            if not self._serves(name):
                return not self.may_refuse
        return False

    def check(self, names: Iterable[tuple[str, str]], sees: Sees = lambda name: True) -> None:
        """Refuse a name that no worker serves.

        Args:
            names: field of the job and name, as `names_of`.
            sees: which other names may be shown.

        Raises:
            ContractError: names the field, and what is near.
        """
        for field, name in names:
            if not self._serves(name):
                raise ContractError(field, self._refusal(name, sees))

    def refusals(
        self, names: Iterable[tuple[str, str]], sees: Sees
    ) -> Mapping[tuple[str, str], ContractError]:
        """The refusals of those of these names that no worker serves; arguments as of `check`."""
        refusals: dict[tuple[str, str], ContractError] = {}
        for name in names:
            try:
                self.check((name,), sees)
            except ContractError as error:
                refusals[name] = error
        return refusals

    def _serves(self, name: str) -> bool:
        if name in self._names or not self._names:
            return True
        # Workers without an app, of a sandbox, publish none.
        return name.startswith("app:") and not any(self._of_kind("app:"))

    def _of_kind(self, kind: str) -> Iterator[str]:
        return (name for name in self._names if name.startswith(kind))

    def _refusal(self, name: str, sees: Sees) -> str:
        kind, _, bare_name = name.partition(":")
        served_names = [
            served.partition(":")[2] for served in self._of_kind(f"{kind}:") if sees(served)
        ]
        near = get_close_matches(bare_name, sorted(served_names), n=3)
        if near:
            return en("no worker serves {}; did you mean {}?", bare_name, ", ".join(near))
        shown = ", ".join(sorted(served_names)[:MOST_SHOWN])
        return en("no worker serves {}; there are {}", bare_name, shown or "-")


def names_of(job: Contract) -> list[tuple[str, str]]:
    """Field and name of each app, robot and group that a job names."""
    names = [("app", app_name(job.app))] if job.needs_app else []
    if job.kind == ROBOT_MESSAGE:
        to = cast("RobotMessage", job).to
        if to.session is None:
            names.append(("to.group" if to.group is not None else "to.robot", to.name))
    return names
