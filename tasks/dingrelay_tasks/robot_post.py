"""robot-post: one message to a group, through its robot's webhook, or as a reply (API §2.8, §12.5)."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from dingrelay_tasks.api_call import Name, Value, sendable
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import AppName, Deliverable, Json
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Unknown
from dingrelay_tasks.person_fields import DINGTALK_FIELDS
from dingrelay_tasks.robot_names import ROBOTS, WEBHOOK

STEP = "post"
FORGOTTEN = "robot_forgotten"
"""Code of a job whose robot's token is not there any more."""
LARGEST = 20_000
"""Bytes of a message (API §2.8)."""


class RobotPost(Deliverable):
    """Post to a group.

    Attributes:
        app: none; a robot's token is its own.
        robot: which robot, as a digest of its token or session: that itself is in no record.
        session: whether it is a session's: a reply within its 90 minutes.
        query: timestamp and signature, where the robot asks for them.
        body: DingTalk's message.
    """

    needs_app = False
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
