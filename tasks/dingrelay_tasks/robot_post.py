"""robot-post: one message to a group, through its robot's webhook, or as a reply (API §2.8, §12.5)."""

import hashlib
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from dingrelay_tasks.api_call import Name, Value, sendable
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import AppName, Deliverable, Json
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Unknown
from dingrelay_tasks.person_fields import DINGTALK_FIELDS

STEP = "post"
ROBOTS = "robots"
"""The app of these jobs, in place of a real one."""
FORGOTTEN = "robot_forgotten"
"""Code of a job whose robot's token is not there any more."""
WEBHOOK = "robot.webhook"
"""The API of webhooks, each of which has limits of its own."""
DISTINCT = 12
"""Digits of a digest that tell one robot's limits from another's."""
LARGEST = 20_000
"""Bytes of a message (API §2.8)."""


TARGET = " to="
"""Stands before the target in the summary of a job to a robot, a group or a session by its name."""


def target_of(app: str, summary: str) -> str:
    """The target of a job to robots, such as ``group:oncall``, by its summary; empty for other jobs."""
    if app != ROBOTS or TARGET not in summary:
        return ""
    return summary.rpartition(TARGET)[2].partition(" ")[0]


def robot_digest(token: str) -> str:
    """Digest that identifies a robot wherever its token must not be."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


class RobotPost(Deliverable):
    """Post to a group.

    Attributes:
        app: none; a robot's token is its own.
        robot: which robot, as a digest of its token or session: that itself is in no record.
        session: whether it is a session's: a reply within its 90 minutes.
        query: timestamp and signature, where the robot asks for them.
        body: DingTalk's message.
    """

    app: AppName = ROBOTS
    robot: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    session: bool = False
    query: Annotated[dict[Name, Value], Field(max_length=8)] = Field(default_factory=dict)
    body: Annotated[dict[str, JsonValue], AfterValidator(sendable), DINGTALK_FIELDS]


@kind(
    "robot-post",
    RobotPost,
    summary="robot={0.robot:.12}",
    rules={WEBHOOK: {"calls": "20/60s"}},
    resolved_by="sent",
)
async def run(job: RobotPost, ctx: Context) -> Json:
    """Post the message; one that may have arrived is sent again.

    By its ``msgUuid`` DingTalk posts it once, however often it comes (API §2.8), but a reply.

    Returns:
        DingTalk's answer.

    Raises:
        Unknown: a reply left and its answer did not come.
    """
    lost = ctx.intent is not None and not ctx.intent.requeued
    if job.session and lost and await ctx.step_result(STEP) is None:
        raise Unknown("the reply left and its answer did not come; it may have been posted")
    return await ctx.once(STEP, partial(_post, job, ctx))


async def _post(job: RobotPost, ctx: Context) -> Json:
    body = job.body if job.session else {"msgUuid": ctx.job_id, **job.body}
    post = partial(ctx.robots.post_by_token, job.robot, session=job.session)
    return {"answer": await post(query=job.query, body=body)}
