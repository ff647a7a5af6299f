"""robot-message: a message to a group through its robots, or to people by the robot of an app (API §12).

Messages are spelled as for a webhook; what an enterprise robot takes is made of the same (API §12.4, §12.6).
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dingrelay_tasks.context import Context, remember, since
from dingrelay_tasks.contract import (
    APP_NAME,
    TYPE_FIELD,
    Contract,
    ContractError,
    Deliverable,
    Json,
    Part,
    UserId,
    UserIdText,
)
from dingrelay_tasks.kinds import Steps, kind
from dingrelay_tasks.outcomes import Refused, Unknown, Wait
from dingrelay_tasks.robot_content import MOST_BUTTONS, RobotContent
from dingrelay_tasks.robot_digest import merged, size_of
from dingrelay_tasks.robot_names import ROBOT_MESSAGE, WEBHOOK, TargetKind
from dingrelay_tasks.robot_post import LARGEST
from dingrelay_tasks.sentence import en

STEP = "post-"
"""Prefix of steps that post."""
CONFIRMED = "confirmed"
DELIVERS, LONGEST_DELIVERY = timedelta(seconds=5), timedelta(minutes=10)
"""Between two questions who has got a message, and for how long they are asked."""
USERS_PER_CALL = 20
"""One to one (API §12.6)."""
MERGEABLE = frozenset({"text", "markdown"})
LOOK_AGAIN = 60.0
"""Seconds, or half of the time between two digests, after which a message looks whether its own is over: Redis may
have lost the wake-up for that."""
UNDER_WAY = frozenset({"queued", "running", "snoozed", "retrying"})
"""States of the job of a digest that is not over."""
FREE = 0.05
"""Seconds until its next call within which a robot counts as free."""
LONGEST_SLOT = 15.0
"""Seconds after which a digest looks again which robot is free first, and after which it waits for a slot like any
other message, unless all robots are blocked."""
LARGEST_PARAM = 15_000
"""Bytes of a message of an enterprise robot (API §12.6)."""
ROOM = 500
"""Bytes of a message that are left for what stands around its text."""

TYPES: dict[TargetKind, frozenset[str]] = {
    "webhook": frozenset({"text", "link", "markdown", "actionCard", "feedCard"}),
    "enterprise": frozenset(
        {"text", "link", "markdown", "actionCard", "image", "audio", "file", "video"}
    ),
}
"""The types that a target takes (API §12.4, §12.6)."""

RobotName = Annotated[str, Field(pattern=APP_NAME.pattern)]


class RobotTarget(Part):
    """Target of a message: a robot's group, a group by name, or people.

    Attributes:
        robot: a robot of the settings; with `users` the enterprise robot that writes to them.
        group: a group of the settings; the robot that is free first posts.
        users: each gets it one to one.
        session: a reply to the message of an event ``robot.message``, which names it.
    """

    robot: RobotName | None = None
    group: RobotName | None = None
    users: Annotated[list[UserId], Field(min_length=1, max_length=1_000)] | None = None
    session: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.session is not None:
            if self.group is not None or self.robot is not None or self.users is not None:
                raise ContractError("session", "stands alone")
            return self
        if self.group is not None and (self.robot is not None or self.users is not None):
            raise ContractError("group", "stands alone")
        if self.group is None and self.robot is None:
            raise ContractError("robot", "is required, unless there is group")
        return self

    @property
    def name(self) -> str:
        """The group, the robot or the session, such as ``group:oncall``."""
        if self.session is not None:
            return f"session:{self.session}"
        return f"robot:{self.robot}" if self.group is None else f"group:{self.group}"


class Digest(Part):
    """How messages are merged.

    Attributes:
        every: time between two messages to the robot or group, such as ``30s``, ``5m`` or ``1h``.
        key: messages of one key stay in their order and stand together.
    """

    every: Annotated[str, Field(pattern=r"^(?:[1-9][0-9]{0,2}[sm]|[1-9]h|1[0-9]h|2[0-4]h)$")]
    key: Annotated[str, Field(max_length=256)] = ""

    @property
    def seconds(self) -> float:
        """The time between two messages."""
        return int(self.every[:-1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[self.every[-1]]


def _by_itself(period: Any) -> Any:
    return {"every": period} if isinstance(period, str) else period


class RobotMessage(Deliverable):
    """Post to a group through its robots, or write to people as a robot.

    Attributes:
        app: none; the settings say which app's robot it is.
        digest: how often messages to its robot or group are posted at most; those that wait until then are
            merged. Urgent ones, and those that can't be merged, are posted at once, alone.
        confirm: ask DingTalk which users have got and read it, or of a group who has read it; for enterprise robots.
    """

    needs_app = False
    app: Literal["robots"] = "robots"  # pyright: ignore[reportIncompatibleVariableOverride]
    to: RobotTarget
    message: RobotContent
    digest: Annotated[Digest, BeforeValidator(_by_itself)] | None = None
    confirm: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.to.users is not None:
            self.check_for("enterprise")
        if self.to.session is not None:
            self.check_for("webhook")
        if self.confirm and (self.digest is not None or not (self.to.users or self.to.group)):
            raise ContractError("confirm", "is for single messages to users or groups")
        if self.digest is not None and (self.to.users is not None or self.to.session is not None):
            raise ContractError("digest", "is for groups")
        for piece in split(self.body, LARGEST):
            if size_of(piece) > LARGEST:
                raise ContractError("message", en("may have {:,} bytes at most", LARGEST))
        return self

    @property
    def body(self) -> Json:
        """The message as DingTalk spells it for a webhook."""
        return self.message.model_dump(mode="json", exclude_none=True)

    @property
    def merged_by(self) -> Digest | None:
        """The digest that it joins; None for one that is posted by itself."""
        is_merged = self.lane != "urgent" and self.message.msgtype in MERGEABLE
        return self.digest if is_merged else None

    @property
    def recipients(self) -> int:
        """How many people it names."""
        return len(self.to.users or ())

    def check_for(self, target: TargetKind) -> None:
        """Refuse a message that such a target can't have.

        Raises:
            ContractError: names the field.
        """
        msgtype = self.message.msgtype
        if msgtype not in TYPES[target]:
            what = "a webhook" if target == "webhook" else "an enterprise robot"
            raise ContractError(
                "message.msgtype", en("{} has no messages of type {}", what, msgtype)
            )
        if target == "webhook":
            return
        if getattr(self.message, "at", None) is not None:
            raise ContractError("message.at", "an enterprise robot can't mention people")
        for piece in split(self.body, LARGEST_PARAM):
            if size_of(piece) > LARGEST_PARAM:
                raise ContractError("message", en("may have {:,} bytes at most", LARGEST_PARAM))
        buttons = self.message.actionCard.btns if msgtype == "actionCard" else None  # type: ignore[union-attr]
        if buttons is not None and len(buttons) > MOST_BUTTONS:
            raise ContractError(
                "message.actionCard.btns", en("may have {:,} entries at most", MOST_BUTTONS)
            )


class RobotPosted(Part):
    """One call that DingTalk took.

    Attributes:
        robot: that posted.
        query_key: by which an enterprise robot's message is asked about and recalled.
        users: that it was for.
        group: that it was posted to by name.
    """

    robot: str
    query_key: str = ""
    users: list[UserIdText] = Field(default_factory=list[str])
    group: str = ""


class RobotMessageResult(Part):
    """Outcome of a message.

    Attributes:
        posts: the calls that DingTalk took.
        invalid: users that DingTalk does not know, or that the robot can't reach.
        flow_controlled: users that DingTalk lets the robot send nothing more to for now.
        digest: the job that posted it with others.
        delivered: users that have got it; with `confirm` only.
        read: those of them that have read it; with `confirm` only.
    """

    posts: list[RobotPosted] = Field(default_factory=list[RobotPosted])
    invalid: list[UserIdText] = Field(default_factory=list[str])
    flow_controlled: list[UserIdText] = Field(default_factory=list[str])
    digest: str = ""
    delivered: list[UserIdText] = Field(default_factory=list[str])
    read: list[UserIdText] = Field(default_factory=list[str])


def split(message: Json, limit: int) -> list[Json]:
    """A message in pieces of at most so many bytes, cut between lines; whole where it can't be cut."""
    msgtype = message[TYPE_FIELD]
    name = {"text": "content", "markdown": "text"}.get(msgtype)
    if name is None or size_of(message) <= limit:
        return [message]
    part = message[msgtype]
    room = limit - size_of({**message, msgtype: {**part, name: ""}}) - ROOM
    return [
        {**message, msgtype: {**part, name: piece}} for piece in _lines(part[name], max(room, ROOM))
    ]


def _lines(text: str, room: int) -> Iterator[str]:
    """The text in pieces of so many bytes as JSON; a longer line is a piece of its own."""
    piece, size = "", 0
    for line in text.splitlines(keepends=True):
        cost = len(json.dumps(line, ensure_ascii=False).encode()) - 2
        if piece and size + cost > room:
            yield piece
            piece, size = "", 0
        piece, size = piece + line, size + cost
    yield piece


def result_of(steps: Steps) -> Json:
    """The result of a job, by its steps."""
    posts = [post for step, post in sorted(steps.items()) if step.startswith(STEP)]
    fields = RobotPosted.model_fields
    result = RobotMessageResult(
        posts=[
            RobotPosted(**{name: post[name] for name in fields if name in post}) for post in posts
        ],
        invalid=[user for post in posts for user in post["invalid"]],
        flow_controlled=[user for post in posts for user in post["flow_controlled"]],
        **steps.get(CONFIRMED, {}),
    )
    return result.model_dump()


def outcomes(job: Json, steps: Steps) -> dict[str, str]:
    """Outcome of each user."""
    users: list[str] = job["to"].get("users") or []
    by_user = dict.fromkeys(users, "not_sent")
    result = result_of(steps)
    for post in result["posts"]:
        by_user |= dict.fromkeys(post["users"], "accepted")
    by_user |= dict.fromkeys(result["delivered"], "delivered") | dict.fromkeys(
        result["read"], "read"
    )
    by_user |= dict.fromkeys(result["invalid"], "invalid")
    return by_user | dict.fromkeys(result["flow_controlled"], "flow_controlled")


@kind(
    ROBOT_MESSAGE,
    RobotMessage,
    summary="to={0.to.name}",
    result=RobotMessageResult,
    scope="robots:write",
    api=WEBHOOK,
    users=("to.users",),
    outcomes=outcomes,
    so_far=result_of,
    resolved_by="sent",
)
async def run(job: RobotMessage, ctx: Context) -> Json:
    """Post the message, in pieces where it is too long.

    Returns:
        A `RobotMessageResult` as JSON values.

    Raises:
        Unknown: an enterprise robot's call left without an answer, and it must not be repeated.
    """
    if digest := job.merged_by:
        return await _merged(job, digest, ctx)
    limit = LARGEST if ctx.robots.kind(job.to) == "webhook" else LARGEST_PARAM
    result = await deliver(job.to, split(job.body, limit), ctx)
    if not job.confirm:
        return result
    confirmation = await ctx.step_result(CONFIRMED) or await _confirmed(result, ctx)
    return {**result, **await remember(ctx, CONFIRMED, confirmation)}


async def _confirmed(result: Json, ctx: Context) -> Json:
    """DingTalk's read state, once the message is delivered to all or `LONGEST_DELIVERY` is over.

    Raises:
        Wait: DingTalk still delivers it.
    """
    began = await since(ctx, "confirming")
    states = [
        await ctx.robots.read_state(post["robot"], post["query_key"], group=post["group"])
        for post in result["posts"]
    ]
    waited = ctx.now() - began
    if not all(state["finished"] for state in states) and waited < LONGEST_DELIVERY:
        raise Wait(DELIVERS, "DingTalk still delivers")
    return {
        name: list(dict.fromkeys(user for state in states for user in state[name]))
        for name in ("delivered", "read")
    }


async def _merged(job: RobotMessage, digest: Digest, ctx: Context) -> Json:
    """The result of the digest that carries the message.

    Raises:
        Wait: it is not over yet.
        Refused: it could not be posted.
        Unknown: it may have been posted.
    """
    entry = {"key": digest.key, "message": job.body}
    name, result = await ctx.robots.digests.join(f"{job.to.name} {digest.seconds:g}", entry)
    if result is None:
        # The same one for all of its messages: whichever of their workers is killed.
        carrier = RobotDigest(to=job.to, every=digest.seconds, digest=name)
        (state,) = await ctx.enqueue([carrier])
        if state in UNDER_WAY:
            raise Wait(timedelta(seconds=max(LOOK_AGAIN, digest.seconds / 2)), "the digest")
        # It was over in between; or an operator has cancelled it, and it never will be.
        if await ctx.robots.digests.result(name) is None:
            await abandon(carrier, ctx, in_doubt=state == "unknown")
        return await _merged(job, digest, ctx)
    if failure := result.get("failed"):
        if failure == "unknown":
            raise Unknown("the digest left and its answer did not come; it may have been posted")
        raise Refused("digest_failed", en("digest {} was not posted", name), "Requeue its job.")
    return result


async def deliver(to: RobotTarget, pieces: Sequence[Json], ctx: Context) -> Json:
    """Post these messages one by one, to at most `USERS_PER_CALL` people a call; the result."""
    users = to.users or []
    posts: dict[str, Json] = {}
    for start in range(0, len(users) or 1, USERS_PER_CALL):
        for piece in pieces:
            step = f"{STEP}{len(posts):03}"
            people = users[start : start + USERS_PER_CALL]
            remembered = await ctx.step_result(step)
            posts[step] = remembered or await _post(to, ctx, step, piece, people)
    return result_of(posts)


async def _post(
    to: RobotTarget, ctx: Context, step: str, piece: Json, users: Sequence[str]
) -> Json:
    lost = ctx.intent is not None and ctx.intent.step == step and not ctx.intent.requeued
    if lost and ctx.robots.kind(to) == "enterprise":
        raise Unknown("the call left and its answer did not come; it may have been carried out")
    # DingTalk posts a webhook's message once for its `msgUuid`, if it is by the same robot (API §2.8).
    choice = await ctx.step_result(f"robot-{step}") if lost else None
    if choice is None:
        choice = await ctx.once(f"robot-{step}", partial(_choose, to, ctx), again=True)
    key = f"{ctx.job_id}-{step}"
    call = partial(ctx.robots.post, choice["robot"], to, piece, users=users, key=key)
    return await ctx.once(step, call)


async def _choose(to: RobotTarget, ctx: Context) -> Json:
    return {"robot": await ctx.robots.choose(to)}


class RobotDigest(Contract):
    """Post the messages of one digest.

    Attributes:
        to: their robot or group.
        every: seconds between two digests.
        digest: its name.
    """

    needs_app = False
    app: Literal["robots"] = "robots"  # pyright: ignore[reportIncompatibleVariableOverride]
    to: RobotTarget
    every: float
    digest: str

    @property
    def identity(self) -> str:
        """One job a digest."""
        return self.digest

    @property
    def target(self) -> str:
        """Target of its messages."""
        return f"{self.to.name} {self.every:g}"


async def abandon(job: RobotDigest, ctx: Context, *, in_doubt: bool) -> None:
    """The digest is not posted, or may not be: nor are its messages."""
    await _finish(job, ctx, {"failed": "unknown" if in_doubt else "dead"})


# A thousand messages wait for it: it does not stand behind their wake-ups.
@kind(
    "robot-digest",
    RobotDigest,
    summary="to={0.to.name}",
    queue="dingrelay.urgent",
    abandon=abandon,
)
async def run_digest(job: RobotDigest, ctx: Context) -> Json:
    """Post a digest as soon as its robot or group has a free slot; its messages end with it.

    Returns:
        A `RobotMessageResult` as JSON values.

    Raises:
        Wait: its time has not come, or no robot is free.
    """
    digests = ctx.robots.digests
    if posted := await digests.result(job.digest):
        await _wake(job, ctx)  # a worker that was killed may not have
        return posted
    if (soonest := await ctx.robots.wait(job.to)) > FREE:
        began = await since(ctx, "waiting")
        waited = (ctx.now() - began).total_seconds()
        if soonest > LONGEST_SLOT or waited < LONGEST_SLOT:
            raise Wait(timedelta(seconds=min(soonest, LONGEST_SLOT)), "a free robot")
    if wait := await digests.close(job.target, job.digest, job.every):
        raise Wait(timedelta(seconds=wait), "the digest before it")
    messages = await digests.messages(job.digest)
    limit = LARGEST if ctx.robots.kind(job.to) == "webhook" else LARGEST_PARAM
    result = await deliver(job.to, merged(messages, limit), ctx)
    result = {**result, "digest": ctx.job_id}
    await _finish(job, ctx, result)
    return result


async def _finish(job: RobotDigest, ctx: Context, result: Json) -> None:
    await ctx.robots.digests.finish(job.target, job.digest, result)
    await _wake(job, ctx)


async def _wake(job: RobotDigest, ctx: Context) -> None:
    """Wake the messages of a digest that is over, and forget their texts."""
    digests = ctx.robots.digests
    await asyncio.gather(*(ctx.wake(entry["job"]) for entry in await digests.messages(job.digest)))
    await digests.forget(job.digest)
