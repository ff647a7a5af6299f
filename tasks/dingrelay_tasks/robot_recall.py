"""robot-recall: takes back what an enterprise robot has posted (API §12.8)."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.robot_message import RobotPosted
from dingrelay_tasks.sentence import en

KEYS_PER_CALL = 20
STEP = "recall-"
"""Prefix of steps that recall."""


class RobotRecall(Contract):
    """The recall of a message.

    Attributes:
        message: the id of its job.
        posts: the calls that DingTalk took for it.
    """

    needs_app = False
    app: Literal["robots"] = "robots"  # pyright: ignore[reportIncompatibleVariableOverride]
    message: Annotated[str, Field(min_length=1, max_length=64)]
    posts: Annotated[list[RobotPosted], Field(min_length=1, max_length=1_000)]

    @property
    def identity(self) -> str:
        """Two recalls of a message are the same job."""
        return f"{self.message}/{self.posts[-1].query_key}"

    @property
    def target(self) -> str:
        """The group or robot that it takes the message back from, such as ``group:oncall``."""
        post = self.posts[0]
        return f"group:{post.group}" if post.group else f"robot:{post.robot}"


@kind(
    "robot-recall",
    RobotRecall,
    summary="to={0.target} {0.message}",
    api="robot.recall",
    goes_on=True,
    reported=True,
)
async def run(job: RobotRecall, ctx: Context) -> Json:
    """Recall all calls; one whose answer was lost is repeated, which changes nothing.

    Returns:
        DingTalk's keys of the calls that were `recalled`, and of those `refused`: older than 24 hours, say.

    Raises:
        Refused: nothing was taken back.
    """
    recalled: list[str] = []
    keys, first = [post.query_key for post in job.posts], job.posts[0]
    for start in range(0, len(keys), KEYS_PER_CALL):
        call = partial(_recall, first, keys[start : start + KEYS_PER_CALL], ctx)
        recalled += (await ctx.once(f"{STEP}{start:03}", call))["recalled"]
    if not recalled:
        raise Refused(
            "nothing_recalled",
            en("DingTalk took back none of {} calls", len(keys)),
            en("Messages can be recalled for 24 hours."),
        )
    for post in job.posts:
        if post.query_key in recalled:
            await ctx.robots.note(post.query_key, post.users, "recalled")
    refused = [key for key in keys if key not in recalled]
    return {"recalled": recalled, "refused": refused}


async def _recall(post: RobotPosted, keys: Sequence[str], ctx: Context) -> Json:
    return {"recalled": await ctx.robots.recall(post.robot, keys, group=post.group)}
