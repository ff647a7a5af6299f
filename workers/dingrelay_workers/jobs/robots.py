"""The robots of the settings, for one job: `dingrelay_tasks.context.Robots`."""

import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.settings.apps import ORGANISATION
from dingrelay_producers.settings.robots import GroupSettings, RobotSettings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import TIME
from dingrelay_tasks.contract import Json
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.robot_message import RobotTarget
from dingrelay_tasks.robot_names import ROBOTS, robot_digest
from dingrelay_tasks.robot_post import FORGOTTEN
from dingrelay_tasks.sentence import en
from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk import robots
from dingrelay_workers.dingtalk.errors import NotFound, Throttled
from dingrelay_workers.limiter.quota import PUSHES, robot_share
from dingrelay_workers.limiter.slot import Parked
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.records import Claim

_NOTHING: Json = {"query_key": "", "invalid": [], "flow_controlled": []}
NoteOutcome = Callable[[str, Sequence[str], str], Awaitable[bool]]
LONGEST_WAIT = 30.0
"""Seconds after which a job that waits for a pool looks again which robot is free first."""


class JobRobots:
    """The robots of the settings, bound to the calls of one job."""

    def __init__(self, claim: Claim, calls: JobCalls, resources: Resources) -> None:
        self._claim = claim
        self._calls = calls
        self._resources = resources
        self._settings = resources.settings

    def kind(self, to: RobotTarget) -> Literal["webhook", "enterprise"]:
        """The kind of target: decides which of DingTalk's APIs posts to it."""
        if to.session is not None:
            return "enterprise"  # a reply has no key by which it would be posted once
        return self._robot(self._names(to)[0]).kind

    @property
    def digests(self) -> "JobDigests":
        """Messages that are merged."""
        return JobDigests(self._resources.redis, self._claim.id)

    async def choose(self, to: RobotTarget) -> str:
        """The robot of the target that may post soonest."""
        if to.session is not None:
            return ""
        names = await self._usable(to)
        if len(names) == 1:
            return names[0]
        waits = await self._waits(names)
        return min(zip(waits, [random.random() for _ in names], names, strict=True))[2]

    async def wait(self, to: RobotTarget) -> float:
        """Seconds until a robot of the target may post, about."""
        if self.kind(to) == "enterprise":
            return 0.0
        return min(await self._waits(await self._usable(to)))

    async def _waits(self, names: Sequence[str]) -> list[float]:
        rules = [self._robot(name).rule for name in names]
        return await self._resources.limiter.waits(ROBOTS, rules)

    async def post(
        self, robot: str, to: RobotTarget, message: Json, *, users: Sequence[str], key: str
    ) -> Json:
        """Post a message as the robot.

        Raises:
            Wait: this robot of a pool is refused or gone, and another may not be.
        """
        if to.session is not None:
            return await self._reply(to.session, message)
        sender, pool, quota = self._robot(robot), len(self._names(to)) > 1, self._resources.quota
        answer = _NOTHING
        try:
            if sender.kind == "webhook":
                lane, share = self._claim.lane, robot_share(robot)
                await quota.check(sender.organisation, lane, counts=share, limit=sender.month)
                query = await self._signature(sender)
                body = {**message, "msgUuid": key}
                await robots.post(self._calls, sender.token, query=query, body=body)
                quota.count(sender.organisation, PUSHES, share)
            else:
                answer = await robots.send(
                    self._calls.for_app(sender.app),
                    sender.code,
                    message,
                    users=users,
                    conversation=self._conversation(to.group or ""),
                )
        except Parked as parked:
            if pool:
                # It takes whichever is free then, and looks the less often the longer it waits.
                waited = (self._claim.time.now() - self._claim.started) / 1000
                longest = min(max(parked.due_in, waited / 4), LONGEST_WAIT)
                parked.due_in, parked.turn = longest * random.uniform(0.7, 1), None
            raise
        except Throttled as error:
            if not pool or error.unsent:
                raise
            raise Wait(timedelta(0), en("robot {} is refused: {}", robot, error.code)) from None
        except NotFound as error:
            raise await self._error_of_missing_robot(robot, to, error) from None
        if answer["query_key"] and self._claim.kind == "robot-message":
            query_key, ttl_ms = keys.robot_query(answer["query_key"]), keys.ROBOT_TTL_MS
            with suppress(
                RedisError, OSError
            ):  # it would cost receipts, and the answer must not be lost
                await self._resources.redis.set(query_key, self._claim.id, px=ttl_ms)
        return {"robot": robot, "users": list(users), "group": to.group or "", **answer}

    async def _reply(self, name: str, message: Json) -> Json:
        """Reply by the session; when that is over, by the conversation or to the user."""
        text: Any = await self._resources.redis.get(keys.robot_session(name))
        if not text:
            reason = en("the message that is replied to is not known any more")
            raise Refused("session_forgotten", reason, "Send it to the group or the user.")
        session = json.loads(text)
        robot, answer = str(session["robotCode"] or ""), _NOTHING
        url = urlsplit(str(session["sessionWebhook"] or ""))
        [key] = parse_qs(url.query).get("session", [""])
        ends = session["sessionWebhookExpiredTime"]
        if key and self._claim.time.now() < int(ends or 0):
            with suppress(NotFound):
                await robots.reply(self._calls.for_app(session["app"]), key, message)
                return {"robot": robot, "users": [], **answer}
        if message["msgtype"] == "feedCard":
            reason = en("an enterprise robot has no messages of type {}", "feedCard")
            raise Refused("session_over", reason, "Send it to the group or the user.")
        group = str(session["conversationType"]) == "2"
        users = [] if group else [str(session["senderStaffId"])]
        calls, conversation = self._calls.for_app(session["app"]), str(session["conversationId"])
        answer = await robots.send(calls, robot, message, users=users, conversation=conversation)
        return {"robot": robot, "users": users, **answer}

    async def read_state(self, robot: str, query_key: str, *, group: str) -> Json:
        """Read state of a message."""
        settings, conversation = self._robot(robot), self._conversation(group)
        calls = self._calls.for_app(settings.app)
        return await robots.read_state(calls, settings.code, query_key, conversation)

    async def note(self, query_key: str, users: Sequence[str], outcome: str) -> bool | None:
        """Note in the history what became of a message; None if it is none of ours."""
        job: Any = await self._resources.redis.get(keys.robot_query(query_key))
        if job is None or not self._settings.history.days:
            return None
        note: NoteOutcome = self._resources.noun_for_jobs("history")
        return await note(job.decode(), users, outcome)

    async def recall(self, robot: str, query_keys: Sequence[str], *, group: str) -> list[str]:
        """Take messages back; the keys of those that DingTalk took back."""
        settings, conversation = self._robot(robot), self._conversation(group)
        calls = self._calls.for_app(settings.app)
        return await robots.recall(calls, settings.code, query_keys, conversation)

    async def post_by_token(
        self, robot: str, *, session: bool, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Json:
        """DingTalk's answer to a message; the robot's token or session is apart from the record."""
        token: Any = await self._resources.redis.get(keys.robot(robot))
        if not token:
            reason = en("the robot's token is not known any more")
            raise Refused(FORGOTTEN, reason, "Post the message again.")
        if session:
            return await robots.reply(self._calls, token.decode(), body, verbatim=True)
        answer = await robots.post(
            self._calls, token.decode(), query=query, body=body, verbatim=True
        )
        self._resources.quota.count(ORGANISATION, PUSHES)
        return answer

    async def _signature(self, robot: RobotSettings) -> dict[str, str]:
        """Made for each attempt, by DingTalk's clock."""
        secret = robot.secret.get_secret_value()
        if not secret:
            return {}
        # A webhook needs no app: its robot is not kept by the state of one.
        ahead = await self._calls.for_app(ROBOTS).ahead(with_token=False)
        return robots.signature(secret, self._claim.time.now() + (ahead or 0))

    def _names(self, to: RobotTarget) -> Sequence[str]:
        return self._group(to.group).robots if to.group is not None else [to.robot or ""]

    async def _error_of_missing_robot(
        self, robot: str, to: RobotTarget, error: NotFound
    ) -> NotFound | Wait:
        """The error, or the wait, after DingTalk does not know a robot: a pool has others, which it may know."""
        if len(self._names(to)) > 1:
            place = keys.robot(robot_digest(self._robot(robot).token))
            await self._resources.redis.set(place, "", px=keys.ROBOT_UNKNOWN_TTL_MS)
            if robot not in await self._usable(to):
                return Wait(timedelta(0), en("robot {} is refused: {}", robot, error.code))
        return error

    async def _usable(self, to: RobotTarget) -> Sequence[str]:
        """The robots of the target, without those that DingTalk has lately not known; all if it knows none."""
        names = self._names(to)
        if len(names) == 1:
            return names
        places = [keys.robot(robot_digest(self._robot(name).token)) for name in names]
        tokens: Any = await self._resources.redis.mget(places)
        return [name for name, token in zip(names, tokens, strict=True) if token != b""] or names

    def _conversation(self, group: str) -> str:
        return self._group(group).conversation if group else ""

    def _group(self, name: str) -> GroupSettings:
        group = self._settings.groups.get(name)
        if group is None:
            raise _unknown("groups", name)
        return group

    def _robot(self, name: str) -> RobotSettings:
        robot = self._resources.apps.robots.get(name)
        if robot is None:
            raise _unknown("robots", name)
        return robot


def _unknown(section: str, name: str) -> Refused:
    reason = en("{}.{}: the worker's settings know none", section, name)
    return Refused("robot_unknown", reason, "Configure it, then requeue the job.")


_PACKAGE = "dingrelay_workers.jobs"


@script(_PACKAGE, TIME)
def _join_digest(
    *,
    target: Key,
    digest_of_job: Key,
    job: str,
    message: str,
    messages: str,
    results: str,
    most: int,
    ttl: int,
) -> None:
    """The job and the time name a new digest. Keys of messages and results begin so; all live for `ttl` (ms)."""


@script(_PACKAGE, TIME)
def _close_digest(
    *,
    target: Key,
    messages: Key,
    digest: str,
    every: int,
    given_up: int,
    ttl: int,
    records: str,
    digests_of: str,
) -> None:
    """Between two digests are `every` ms; one that is being posted is given up after so many.

    What is known of the target lives for `ttl` (ms) from then on. Keys of records,
    and of which digest a job is in, begin so.
    """


@script(_PACKAGE)
def _finish_digest(
    *,
    target: Key,
    messages: Key,
    result_key: Key,
    digest: str,
    result: str,
    ttl: int,
    records: str,
) -> None: ...


MOST_MESSAGES = 2_000
"""Messages of one digest; more begin another one."""
GIVEN_UP_MS = 3_600_000
"""After which a digest that is being posted holds up those behind it no more. A robot is blocked for ten minutes."""


class JobDigests:
    """The digests of robots and groups, for one job."""

    def __init__(self, redis: Redis, job_id: str) -> None:
        self._redis = redis
        self._job_id = job_id

    async def join(self, target: str, message: Json) -> tuple[str, Json | None]:
        """The digest that carries this job's message, and its result once it is over."""
        call = _join_digest(
            target=keys.digests(target),
            digest_of_job=keys.digest_of(self._job_id),
            job=self._job_id,
            message=canonical_json({**message, "job": self._job_id}),
            messages=keys.digest(""),
            results=keys.digest_result(""),
            most=MOST_MESSAGES,
            ttl=keys.DIGEST_TTL_MS,
        )
        digest, result = await run_async(self._redis, call)
        digest_result = json.loads(result) if result else None
        if digest_result and "failed" in digest_result:
            # A requeue joins another one.
            await self._redis.delete(keys.digest_of(self._job_id))
        return digest.decode(), digest_result

    async def result(self, digest: str) -> Json | None:
        """Outcome of a digest; None if it is not over."""
        result = await self._redis.get(keys.digest_result(digest))
        return json.loads(result) if result else None

    async def close(self, target: str, digest: str, every: float) -> float:
        """Close a digest; seconds to wait where its time has not come."""
        call = _close_digest(
            target=keys.digests(target),
            messages=keys.digest(digest),
            digest=digest,
            every=int(every * 1000),
            given_up=GIVEN_UP_MS,
            ttl=keys.DIGEST_TTL_MS,
            records=keys.job(""),
            digests_of=keys.digest_of(""),
        )
        return float(await run_async(self._redis, call)) / 1000

    async def messages(self, digest: str) -> list[Json]:
        """The messages of a digest that is closed, as they came."""
        texts: list[Any] = await self._redis.lrange(keys.digest(digest), 0, -1)
        return [json.loads(text) for text in texts]

    async def finish(self, target: str, digest: str, result: Json) -> None:
        """Store what became of a digest; the next one may follow."""
        call = _finish_digest(
            target=keys.digests(target),
            messages=keys.digest(digest),
            result_key=keys.digest_result(digest),
            digest=digest,
            result=canonical_json(result),
            ttl=keys.DIGEST_TTL_MS,
            records=keys.job(""),
        )
        await run_async(self._redis, call)

    async def forget(self, digest: str) -> None:
        """Delete the messages: they are kept as long as their jobs are under way, which an erasure waits for."""
        await self._redis.delete(keys.digest(digest))
