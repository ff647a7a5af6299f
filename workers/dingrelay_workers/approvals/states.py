"""The states of approvals, as the body of one job sees them."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
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
from dingrelay_workers.approvals.merge import is_ended
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.dingtalk.clock import DingTalkClock

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
        clock: DingTalk's.
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
        clock: DingTalkClock,
        settings: Settings,
        enqueue: Callable[[Sequence[Draft]], Awaitable[None]],
        wake: Callable[[str], Awaitable[object]],
    ) -> None:
        self._app = app
        self._job_id = job_id
        self._sender = sender
        self._store = store
        self._redis = redis
        self._clock = clock
        self._settings = settings
        self._enqueue = enqueue
        self._wake = wake

    @property
    def follows(self) -> bool:
        """Whether any approval is followed."""
        return self._settings.approvals.follow != "none"

    async def follow(self, instance: str, *, at: datetime) -> None:
        """Have an approval that this job created followed, by one job of its own."""
        if not self.follows:
            return
        if await self._redis.exists(keys.job(self._follower(instance))):
            # Events came first: their row does not know this job, and may have ended.
            await self.open(instance, at=at)
        else:
            await self._enqueue_follower(instance, self._sender)

    async def open(self, instance: str, *, at: datetime) -> Followed | None:
        """The approval's row, made if it is not there yet; None if another app's job created it.

        Where an event came before the row, DingTalk is asked at once: what the event said is not
        known any more.
        """
        note = keys.approval_missed(self._app, instance)
        missed = await self._redis.get(note) is not None
        row = await self._store().find(instance)
        if row is None or not row["job"]:
            row = await self._opened(instance, row, {}, at, look_now=missed)
        if missed:
            await self._redis.delete(note)
        return None if row is None else _followed(row)

    @asynccontextmanager
    async def charged_look(self) -> AsyncGenerator[None]:
        """Take one of the month's calls that are for looks; it is given back where none is answered.

        Raises:
            Wait: their share of the month is used up.
        """
        monthly = self._settings.quota.monthly_calls
        if monthly is None:
            yield
            return
        organisation = self._settings.app(self._app).organisation
        key = keys.quota(organisation, beijing.month(await self._clock.now()))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(key, LOOKS_FIELD, 1)
            pipe.pexpire(key, keys.QUOTA_TTL_MS)
            used, _ = await pipe.execute()
        try:
            self._check_share(used, monthly)
            yield
        except BaseException:
            await self._redis.hincrby(key, LOOKS_FIELD, -1)
            raise

    async def look_up_all(self, at: datetime) -> None:
        """Enqueue a look at each approval that is followed: events may be lost."""
        for instance in await self._store().due_now(at) if self.follows else ():
            await self._wake(self._follower(instance))

    async def record(
        self, change: ApprovalChange, *, at: datetime, early: bool = False
    ) -> Followed | None:
        """Write what was reported, where it is news; None if the approval is not followed."""
        instance, store = change.instance, self._store()
        row = await store.find(instance)
        if row is None or not row["job"]:
            columns = {"template": change.template, "originator": change.originator}
            follows = self._follows_all(change.template) and not early
            opened = await self._opened(instance, row, columns, at, unowned=follows)
            if opened is None:
                return None
            if row is None:
                await self._enqueue_follower(instance, opened["sender"])
        moved = await store.record(change, at=at)
        if moved is None:
            return None
        if is_ended(moved.row["state"]) and moved.row["look_at"] is None:
            await self._wake(self._follower(instance))
        return _followed(moved.row)

    def _check_share(self, used: int, monthly: int) -> None:
        if used > monthly * self._settings.approvals.look_share:
            raise Wait(NO_LOOKS_LEFT, "the month's share of calls for look-ups is used up")

    def _follows_all(self, template: str) -> bool:
        """Whether approvals of a template are followed that no job created."""
        follow = self._settings.approvals.follow
        return follow == "all" or (isinstance(follow, tuple) and template in follow)

    async def _opened(
        self,
        instance: str,
        row: RowMapping | None,
        columns: Mapping[str, str],
        at: datetime,
        *,
        unowned: bool = True,
        look_now: bool = False,
    ) -> RowMapping | None:
        """The row with the job that created the approval; None if it is not to be followed here.

        Each app of an organisation gets the events of all. What was reported to this one before the
        job of another was known is deleted.

        Args:
            instance: the approval.
            row: as it is; None if there is none.
            columns: what is known of it beside its job.
            at: now.
            unowned: whether it is followed where no job is known.
            look_now: as `ApprovalStore.open`.
        """
        owner = await self._owner(instance) if self.follows else None
        if owner and owner.pop("app") != self._app:
            if row is not None:
                await self._store().forget(instance)
            return None
        if not (row or owner or unowned):
            # Its job may still be creating it: the answer was lost, or takes very long.
            note = keys.approval_missed(self._app, instance)
            await self._redis.set(note, 1, px=keys.APPROVAL_MISSED_TTL_MS)
            return None
        values = {
            "job": "",
            "sender": "",
            "template": "",
            "originator": "",
            **columns,
            **(owner or {}),
        }
        return await self._store().open(instance, **values, at=at, look_now=look_now)

    async def _owner(self, instance: str) -> dict[str, str] | None:
        """The columns of an approval that its job's record has; None if there is none."""
        job = _text(await self._redis.get(keys.approval_owner(instance))).partition(" ")[2]
        if not job:
            return None
        app, sender, payload = await self._redis.hmget(keys.job(job), ["app", "sender", "payload"])
        if not app:
            return None
        request = json.loads(payload or "{}")
        return {
            "app": _text(app),
            "job": job,
            "sender": _text(sender),
            "template": str(request.get("process_code", "")),
            "originator": str(request.get("originator", "")),
        }

    async def _enqueue_follower(self, instance: str, sender: str) -> None:
        try:
            follow = ApprovalFollow(app=self._app, instance=instance)
        except ValueError:
            # DingTalk can't look up such an id, but an approval with one was created.
            log.warning("approval_not_followed", app=self._app, job=self._job_id)
            return
        await self._enqueue([record.draft(follow, key=instance, sender=sender)])

    def _follower(self, instance: str) -> str:
        return record.keyed_id(self._app, ApprovalFollow.kind, instance)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _followed(row: RowMapping) -> Followed:
    return Followed(
        state=row["state"],
        ended=is_ended(row["state"]),
        looks=row["looks"],
        look_at=row["look_at"],
    )
