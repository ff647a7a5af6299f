"""Messages that are the same but for their users, made into one job before they are enqueued."""

from collections.abc import Iterable, Iterator
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, TypeGuard

from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import DEFAULT_KIND

if TYPE_CHECKING:
    from dingrelay_tasks.message_send import MessageSend


class Group:
    """Jobs to enqueue as one.

    Args:
        first: the job that the others are like; the only one if it is not shared.
    """

    __slots__ = ("_first", "_users")

    def __init__(self, first: Contract) -> None:
        self._first = first
        self._users: dict[str, None] = {}

    def takes(self, job: "MessageSend") -> bool:
        """Add the job's users, if there is room and none of them is there already.

        A user who is named twice needs two jobs: the second one reports the duplicate.
        """
        from dingrelay_tasks.message_send import USERS_PER_CALL

        users = job.users
        if len(users) + len(self._users) > USERS_PER_CALL or not self._users.keys().isdisjoint(
            users
        ):
            return False
        self._users.update(dict.fromkeys(users))
        return True

    @property
    def job(self) -> Contract:
        """The job that stands for all of them."""
        if not _is_message(self._first) or len(self._users) <= self._first.recipients:
            return self._first
        return self._first.readdressed(list(self._users))


def grouped(jobs: Iterable[Contract]) -> Iterator[Group]:
    """The group of each job, in order; a group is whole once all jobs have come."""
    growing: dict[tuple[object, ...], Group] = {}
    for job in jobs:
        if not _is_message(job) or (content := _content(job)) is None:
            yield Group(job)
            continue
        same = content, _alike()(job)
        group = growing.get(same)
        if group is None or not group.takes(job):
            group = growing[same] = Group(job)
            group.takes(job)
        yield group


def _is_message(job: Contract) -> TypeGuard["MessageSend"]:
    return job.kind == DEFAULT_KIND


@cache
def _alike() -> "attrgetter[tuple[object, ...]]":
    """Fields that jobs of one content must have in common as well."""
    from dingrelay_tasks.message_send import MessageSend

    return attrgetter(*(MessageSend.model_fields.keys() - {"to", "message"}))


def _content(job: "MessageSend") -> str | None:
    """The content that jobs of a group share; None where a key or a time sets the job apart.

    The users behind addresses are not known yet.
    """
    if job.idempotency_key or job.send_at or job.expires_at or job.to.addresses:
        return None
    return job.batch_digest
