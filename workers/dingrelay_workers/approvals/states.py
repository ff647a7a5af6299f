"""What became of approvals, as the body of one job sees it."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from redis.asyncio import Redis
from sqlalchemy import RowMapping
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_tasks import beijing
from dingrelay_tasks.approval_follow import ApprovalFollow
from dingrelay_tasks.context import ApprovalChange, Followed
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.approvals.store import ApprovalStore, has_ended

LOOKS_FIELD = "looks"
"""Calls of the month that asked how approvals stand, beside the count of all."""
NO_LOOKS_LEFT = timedelta(hours=6)
"""How long a look waits whose share of the month is used up: as long as between two of them."""

log = get_logger("dingrelay.approvals")


class JobApprovalStates:
    """`dingrelay_tasks.context.ApprovalStates` for one job.

    Args:
        app: the job's.
        job_id: the job.
        sender: who asked for it.
        store: the table.
        redis: where jobs and marks are.
        settings: what is followed.
        enqueue: accepts jobs and wakes them.
        wake: has a waiting job looked at.
    """

    def __init__(
        self,
        app: str,
        *,
        job_id: str,
        sender: str,
        store: Callable[[], ApprovalStore],
        redis: Redis,
        settings: Settings,
        enqueue: Callable[[Sequence[Draft]], Awaitable[None]],
        wake: Callable[[str], Awaitable[object]],
    ) -> None:
        self._app = app
        self._job_id = job_id
        self._sender = sender
        self._store = store
        self._redis = redis
        self._settings = settings
        self._enqueue = enqueue
        self._wake = wake

    @property
    def follows(self) -> bool:
        """Whether any approval is followed."""
        return self._settings.approvals.follow != "none"

    async def follow(self, instance: str, *, template: str, originator: str) -> None:
        """Have an approval that this job created followed, by one job of its own."""
        if not self.follows:
            return
        await self._follow(
            instance,
            job=self._job_id,
            template=template,
            originator=originator,
            sender=self._sender,
        )

    async def open(
        self, instance: str, *, job: str, template: str, originator: str, sender: str, at: datetime
    ) -> Followed:
        """The approval's row; made if it is not there yet.

        Where an event came before the row, DingTalk is asked at once: it is not known any more
        what the event told.
        """
        note = keys.approval_missed(self._app, instance)
        missed = await self._redis.get(note)
        row = await self._store().open(
            instance,
            job=job,
            template=template,
            originator=originator,
            sender=sender,
            at=at,
            look_now=missed is not None,
        )
        if missed is not None:
            await self._redis.delete(note)
        return _followed(row)

    async def spend_look(self) -> None:
        """Take one of the month's calls that are for looks.

        Raises:
            Wait: their share of the month is used up.
        """
        monthly = self._settings.quota.monthly_calls
        if monthly is None:
            return
        organisation = self._settings.app(self._app).organisation
        key = keys.quota(organisation, beijing.month(beijing.now()))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(key, LOOKS_FIELD, 1)
            pipe.pexpire(key, keys.QUOTA_TTL_MS)
            used, _ = await pipe.execute()
        if used > monthly * self._settings.approvals.look_share:
            await self._redis.hincrby(key, LOOKS_FIELD, -1)
            raise Wait(NO_LOOKS_LEFT, "the month's share of calls for look-ups is used up")

    async def record(self, change: ApprovalChange, *, at: datetime) -> Followed | None:
        """Write what was told, where it is news; None if nobody follows the approval."""
        moved = await self._store().record(change, at=at)
        if moved is None:
            if not await self._is_followed(change, at):
                return None
            moved = await self._store().record(change, at=at)
            assert moved is not None, "it was just opened"
        if has_ended(moved.row) and moved.row["look_at"] is None:
            await self._wake(self._follower(change.instance))
        return _followed(moved.row)

    async def _is_followed(self, change: ApprovalChange, at: datetime) -> bool:
        """Whether an approval that is not in the table is to be in it; it is, then."""
        follow = self._settings.approvals.follow
        everybodys = follow == "all" or (isinstance(follow, tuple) and change.template in follow)
        owner = await self._owner(change.instance) if self.follows else None
        if owner is None and not everybodys:
            # Its job may still be creating it: the answer was lost, or takes very long.
            await self._redis.set(
                keys.approval_missed(self._app, change.instance),
                1,
                px=keys.APPROVAL_MISSED_TTL_MS,
            )
            return False
        made = {
            "job": "",
            "sender": "",
            "template": change.template,
            "originator": change.originator,
            **(owner or {}),
        }
        await self._store().open(
            change.instance,
            job=made["job"],
            sender=made["sender"],
            template=made["template"],
            originator=made["originator"],
            at=at,
        )
        await self._follow(change.instance, **made)
        return True

    async def _owner(self, instance: str) -> dict[str, str] | None:
        """What the job of this app that has the approval tells of it; None if there is none.

        The job of another app does not count: each app of an organisation gets the events of all.
        """
        job = _text(await self._redis.get(keys.approval_owner(instance))).partition(" ")[2]
        if not job:
            return None
        app, sender, payload = await self._redis.hmget(keys.job(job), ["app", "sender", "payload"])
        if _text(app) != self._app:
            return None
        asked = json.loads(payload or "{}")
        return {
            "job": job,
            "sender": _text(sender),
            "template": str(asked.get("process_code", "")),
            "originator": str(asked.get("originator", "")),
        }

    async def _follow(
        self, instance: str, *, job: str, template: str, originator: str, sender: str
    ) -> None:
        try:
            follow = ApprovalFollow(
                app=self._app, instance=instance, job=job, template=template, originator=originator
            )
        except ValueError:
            # DingTalk can't be asked for such an id, but what has it was created.
            log.warning("approval_not_followed", app=self._app, job=job)
            return
        await self._enqueue([record.draft(follow, key=instance, sender=sender)])

    def _follower(self, instance: str) -> str:
        return record.keyed_id(self._app, ApprovalFollow.kind, instance)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _followed(row: RowMapping) -> Followed:
    return Followed(
        state=row["state"],
        ended=has_ended(row),
        looks=row["looks"],
        look_at=row["look_at"],
        known_since=row["known_at"],
    )
