"""Which notices an endpoint receives."""

from dataclasses import dataclass
from typing import NamedTuple

from dingrelay_tasks import notice_types


class Subject(NamedTuple):
    """The fields by which an endpoint filters notices.

    Attributes:
        sender: of the job or campaign; empty without one.
        kind: of the job that ended; empty without one.
    """

    type: str
    app: str
    sender: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Which notices go where.

    Attributes:
        name: for people and logs.
        url: ``https://…`` or ``celery://QUEUE/TASK``.
        types: types of notices; ``job.*`` for all that begin with ``job.``, ``*`` for all.
        apps: apps whose notices it receives; empty for all.
        senders: senders whose jobs, campaigns and approvals it receives; empty for all.
        kinds: kinds of jobs whose ends it receives; empty for all.
    """

    name: str
    url: str
    types: tuple[str, ...]
    apps: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def takes(self, subject: Subject) -> bool:
        """Whether it receives such a notice.

        Senders and kinds narrow only what has them: a change of the directory has neither.
        """
        if self.apps and subject.app not in self.apps:
            return False
        of_job = subject.type.startswith("job.")
        if self.kinds and of_job and subject.kind not in self.kinds:
            return False
        asked_for = of_job or subject.type.startswith(("campaign.", "approval."))
        if self.senders and asked_for and subject.sender not in self.senders:
            return False
        return any(notice_types.matches(pattern, subject.type) for pattern in self.types)
