"""The calls of a job that may share them with others of its content."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_workers.caller import Caller
from dingrelay_workers.delivery import Delivery
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, Api
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError
from dingrelay_workers.limiter.grant import Draining, Grant, Parked
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import JITTER, Rule
from dingrelay_workers.records import Claim, Records
from dingrelay_workers.rides import BOARDING, Likeness, NoSeat, Parted, Ride, Rides, Seat

Json = dict[str, Any]

Carry = Callable[[Delivery, Claim, Seat | None], Coroutine[Any, Any, object]]
"""Runs a job that is claimed, in the seat that is kept for it."""

log = get_logger("dingrelay.jobs")


class Passenger:
    """`dingtalk.calls.Calls` for a job whose work notification others may share.

    It joins a call of its content that waits for its slot in this process, or makes one. A call
    that had to wait takes along, when it leaves, the jobs that wait in the queues.
    """

    def __init__(
        self,
        claim: Claim,
        caller: Caller,
        *,
        rides: Rides,
        records: Records,
        limiter: Limiter,
        carry: Carry,
        seat: Seat | None = None,
    ) -> None:
        """Nothing is called yet.

        Args:
            claim: the job's.
            caller: makes the job's own calls.
            rides: the calls that wait in this process.
            records: where other jobs are claimed.
            limiter: tells whether recipients are limited.
            carry: runs a job that is taken along.
            seat: kept for this job in a call that takes it along.
        """
        self._claim = claim
        self._caller = caller
        self._rides = rides
        self._records = records
        self._limiter = limiter
        self._carry = carry
        self._seat = seat
        self._alike = Likeness(claim.shares, claim.lane)

    @property
    def app(self) -> str:
        """The app for which it calls."""
        return self._caller.app

    @property
    def agent_id(self) -> str:
        """The app's agent id."""
        return self._caller.agent_id

    async def call(
        self,
        api: Api,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        recipients: int = 0,
    ) -> Json:
        """One call under all limits; `Caller.call` tells what it raises.

        Raises:
            Parted: DingTalk refused a call for several jobs.
        """
        if api is not MESSAGE_SEND or not body or "userid_list" not in body:
            return await self._caller.call(api, query=query, body=body, recipients=recipients)
        await self._caller.check(api)
        users = str(body["userid_list"]).split(",")
        while True:
            try:
                seat = await self._find_seat(users)
                if seat.leads:
                    return await self._lead(seat.ride, api, body)
                return await self._follow(seat)
            except NoSeat:
                continue

    async def _find_seat(self, users: list[str]) -> Seat:
        kept, self._seat = self._seat, None
        if kept is not None:
            kept.take(users)
            return kept
        eager = bool(self._claim.waiting)
        most = self._limiter.recipients_per_call(self.app, MESSAGE_SEND.name)
        return await self._rides.seat(self._alike, users, eager=eager, most=most)

    async def _follow(self, seat: Seat) -> Json:
        """Be part of another job's call."""
        open_before = self._caller.open_call
        try:
            await seat.departure()
            await self._caller.note()
            seat.ready()
            return await seat.arrival()
        except (NoSeat, Parked, Draining):  # it has not left
            if not open_before:
                self._caller.close_note()
            raise
        except (DingTalkError, Parted) as error:
            if not isinstance(error, Ambiguous) and not open_before:
                self._caller.close_note()
            raise
        finally:
            seat.leave()

    async def _lead(self, ride: Ride, api: Api, body: Mapping[str, Any]) -> Json:
        """Make the call for all who are part of it."""
        try:
            grant = await self._caller.slot(api, ride.costs, place=self._claim.place)
            await self._board(ride, api, grant)
            users = ride.seal()
            self._rides.close(self._alike, ride)
            shared = {**body, "userid_list": ",".join(users)}
            if len(users) != grant.costs.get("recipients"):
                # Those that were taken along have paid for themselves.
                grant = replace(grant, costs={"calls": 1, "recipients": len(users)})
            answer = await self._caller.leave(
                api, await self._caller.fresh(api, grant), body=shared
            )
        except BaseException as error:
            self._rides.close(self._alike, ride)
            own = ride.end(error, left=self._caller.open_call)
            if own is error:
                raise
            raise own from error
        ride.arrive(answer)
        return answer

    async def _board(self, ride: Ride, api: Api, grant: Grant) -> None:
        """Take along those who wait for a call like this one."""
        bucket = self._limiter.recipients_rule(self.app, api.name)
        ride.depart(grant.costs["recipients"] if bucket else None)
        if (grant.waited or ride.eager) and not grant.trial:
            boarding = self._rides.carry(self._take_along(ride, bucket))
            # The jobs are claimed by then: should this one be cancelled, they run all the same.
            if ride.room:
                await asyncio.shield(boarding)
        # Recipients are counted when they arrive: they may not be much later than their tokens.
        await ride.boarded(JITTER if bucket else BOARDING)

    async def _take_along(self, ride: Ride, bucket: Rule | None) -> None:
        try:
            boarding = await self._records.board(
                self._claim.shares,
                nonce=uuid.uuid4().hex,
                room=ride.room,
                lane=self._claim.lane,
                bucket=bucket,
            )
        except RedisError as error:
            log.warning("nobody_taken_along", reason=type(error).__name__)
            return
        for delivery, claim in boarding.taken:
            self._rides.carry(self._carry(delivery, claim, ride.reserve()))
        if boarding.next:
            self._rides.carry(self._carry(*boarding.next, None), leads=self._alike)
