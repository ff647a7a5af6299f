"""campaign-chunk: one call of a campaign, for up to 100 of its recipients (API §2.1).

SQL holds the people of each chunk, and each person is in one. It leaves out people that DingTalk would
silently drop, as a message does, and calls.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, NoReturn

from pydantic import Field

from dingrelay_tasks.context import Context, DailyVerdict, MessageCall
from dingrelay_tasks.contract import Contract, Json, Lane, Part, UserId, UserIdText
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.message import Message, payload
from dingrelay_tasks.message_result import SentMessage
from dingrelay_tasks.message_send import USERS_PER_CALL, reachable
from dingrelay_tasks.outcomes import Refused, Unknown, Withdrawn
from dingrelay_tasks.sentence import en

STEP = "call"
TOO_LARGE = "chunk_too_large"
"""The code of the refusal of a chunk that has more people than a call may have by now."""


class CampaignChunk(Contract):
    """One call of a campaign. Enqueued by the dispatcher only.

    Attributes:
        campaign: whose chunk it is.
        number: which one, from 0.
        users: its recipients, each once in the whole campaign.
        uniform: the message is the campaign's own, the same for all its chunks.
        repeated: an earlier job of this chunk was lost, and may have made the call.
        released: when the chunk was released for that job; a repeat must leave on that day.
    """

    lane: Lane = "bulk"
    campaign: Annotated[str, Field(min_length=1, max_length=64)]
    number: Annotated[int, Field(ge=0)]
    users: Annotated[list[UserId], Field(min_length=1, max_length=USERS_PER_CALL)]
    message: Message
    uniform: bool = True
    repeated: bool = False
    released: datetime | None = None

    @property
    def recipients(self) -> int:
        """How many people it is for."""
        return len(self.users)


_UNLESS_EMPTY: Any = Field(default_factory=list, exclude_if=lambda users: not users)
"""A dispatcher of 0.2.0 refuses a result with a field that it does not know."""


class CampaignChunkResult(Part, extra="ignore"):
    """Outcome of a chunk. Of another release's result the fields that are here are read.

    Attributes:
        call: the call that DingTalk took; None if no recipient was left.
        called_at: when it took it, ISO 8601.
        duplicate: users left out: they have this content already today.
        daily_cap: users left out: they have had the day's messages.
        unknown_user: users left out: DingTalk does not know this userid.
        out_of_scope: users left out: they are outside the app's visible range.
        unverified: users in the call that are not in the directory and could not be looked up.
        ambiguous: an earlier call was lost and this one repeats it; DingTalk dropped the copies for
            users who had it.
    """

    call: SentMessage | None = None
    called_at: str | None = None
    duplicate: list[UserIdText] = Field(default_factory=list)
    daily_cap: list[UserIdText] = Field(default_factory=list)
    unknown_user: list[UserIdText] = _UNLESS_EMPTY
    out_of_scope: list[UserIdText] = _UNLESS_EMPTY
    unverified: list[UserIdText] = _UNLESS_EMPTY
    ambiguous: bool = False


@kind(
    "campaign-chunk",
    CampaignChunk,
    summary="{0.campaign}/{0.number} users={0.recipients}",
    api="message.send",
    ephemeral=True,
)
async def run(job: CampaignChunk, ctx: Context) -> Json:
    """Make the call; a `CampaignChunkResult` as JSON.

    A call whose answer was lost is repeated with the same bytes: DingTalk drops the copies
    of users who got the message that day.

    SQL is the authority: a record that an older state of Redis brought back makes no call.

    Raises:
        Withdrawn: by SQL this release is over, or the campaign does not run.
        Wait: an equal message to one of them may just be leaving.
        Unknown: it was lost on another Beijing day, so a repeat could arrive twice; or a repeat is
            more than a call may be by now.
        Refused: it is more than a call may be by now, and made none. The dispatcher splits it.
    """
    intent = ctx.intent
    if intent is not None and await ctx.day(intent.since) != await ctx.day(ctx.now()):
        raise Unknown("a call's answer was lost, and a repeat on another day could arrive twice")
    lost_on = await ctx.day(job.released) if job.repeated and job.released else ""
    if lost_on and lost_on != await ctx.day(ctx.now()):
        raise Unknown("an earlier job was lost, and a repeat on another day could arrive twice")
    return await ctx.once(STEP, partial(_call, job, ctx, lost=intent is not None))


async def _call(job: CampaignChunk, ctx: Context, *, lost: bool) -> Json:
    message = payload(job.message)
    repeats = lost or job.repeated
    reach = await reachable(job.users, ctx, repeats=repeats)
    if not await ctx.campaigns.wants(job.campaign, job.number, ctx.job_id):
        raise Withdrawn("the campaign does not want this call")
    admitted = DailyVerdict([])
    if reach.users:
        message_call = MessageCall(STEP, reach.users)
        admitted = await ctx.messages.reserve(message_call, message, anyway=False)
    call = at = None
    if len(admitted.users) > ctx.messages.users_per_call:
        _refuse(len(admitted.users), ctx.messages.users_per_call, lost=repeats)
    if admitted.users:
        task, request = await ctx.messages.send(MessageCall(STEP, admitted.users), message)
        call = SentMessage(task_id=task, request_id=request, recipients=len(admitted.users))
        at = ctx.now().isoformat()
    return CampaignChunkResult(
        call=call,
        called_at=at,
        duplicate=admitted.duplicate,
        daily_cap=admitted.daily_cap,
        unknown_user=reach.unknown_user,
        out_of_scope=reach.out_of_scope,
        unverified=[user for user in reach.unverified if user in admitted.users],
        ambiguous=repeats,
    ).model_dump(mode="json")


def _refuse(users: int, most: int, *, lost: bool) -> NoReturn:
    """DingTalk would drop what is above the limit of recipients, without a word (API §2.1)."""
    reason = en(
        "{} people are more than the {} that a call may have under the app's limit", users, most
    )
    if lost:
        raise Unknown(en("a call's answer was lost, and for a repeat {}", reason))
    raise Refused(TOO_LARGE, reason, "It is split into smaller calls by itself.")
