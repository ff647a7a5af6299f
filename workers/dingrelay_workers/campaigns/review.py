"""The approval of a campaign by a second person, before it starts.

What is approved is a digest of its text, its people, its time and its app. A campaign that is none of these any more has
to be approved again. None who wrote it may approve it, nor who asked for the approval.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from math import isinf
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from sqlalchemy import Row, delete, false, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.errors import CampaignConflict
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_tasks.contract import UserIdText
from dingrelay_tasks.message_send import MessageSend
from dingrelay_tasks.sentence import Kept, Sentence, en
from dingrelay_workers.campaigns.models import CampaignRow, ReviewRow, State
from dingrelay_workers.campaigns.people import (
    acting_person,
    author,
    deciders,
    humans_of,
    person_of,
    with_issuers,
)
from dingrelay_workers.campaigns.removal import COUNTED_TOGETHER
from dingrelay_workers.campaigns.review_cards import to_reviewers, to_writers
from dingrelay_workers.database.database import Database, change_rows, upsert
from dingrelay_workers.roles.service import approvers

Decision = Literal["approved", "rejected"]


WORDS: Mapping[str, Sentence] = {
    "none": en("no approval was asked for"),
    "asked": en("the approval is asked for"),
    "approved": en("approved"),
    "rejected": en("rejected"),
    "outdated": en("changed since its approval was asked for"),
}
"""States of a review in words."""


class CampaignReview(BaseModel):
    """How the approval of a campaign stands."""

    needed: bool
    """Whether it starts only once it is approved, by the settings."""
    state: Literal["none", "asked", "approved", "rejected", "outdated"]
    """`outdated`: the campaign is not what was approved."""
    asked_by: UserIdText = ""
    asked_at: datetime | None = None
    decided_by: UserIdText = ""
    decided_at: datetime | None = None
    reason: str = ""
    writers: list[UserIdText] = []
    """Writers of the campaign: none of them may approve it, nor who issued the keys by which it was written."""
    decidable: bool = False
    """Whether the person who asks for this may decide: it was submitted, and they are a second person."""
    undecidable: Kept = ""
    """Why this person may not decide on one that was submitted; empty if they may."""

    @property
    def holds(self) -> bool:
        """Whether the campaign must not start: without an approval that it needs, or against what a second person said."""
        return self.state == "rejected" or (self.needed and self.state != "approved")


async def review_of(
    settings: Settings, connection: AsyncConnection, row: CampaignRow
) -> CampaignReview:
    """How the approval of a campaign stands."""
    needed = await _is_needed(settings.campaigns, connection, row, clock.now())
    writers = list(row.writers or ())
    review = await _find(connection, row.id)
    if review is None:
        return CampaignReview(needed=needed, state="none", writers=writers)
    state = review.decision or "asked"
    if row.state == State.DRAFT and review.digest != digest_of(row):
        state = "outdated"
    asked, obstacle = state == "asked", ""
    if asked:
        try:
            people = await deciders(settings, connection, row.id)
            obstacle = _same_human(settings, row, review.asked_by, people)
        except CampaignConflict as error:
            obstacle = error.problem
    names = ("asked_by", "asked_at", "decided_by", "decided_at", "reason")
    fields = {name: getattr(review, name) for name in names}
    return CampaignReview.model_validate(
        {
            "needed": needed,
            "state": state,
            "writers": writers,
            "decidable": asked and not obstacle,
            "undecidable": obstacle,
            **fields,
        }
    )


async def states(database: Database, campaigns: Collection[str]) -> dict[str, str]:
    """How reviews stand that were asked for, without a look at whether their campaigns have changed since."""
    query = select(ReviewRow.campaign, ReviewRow.decision).where(ReviewRow.campaign.in_(campaigns))
    async with database.read() as connection:
        return {row.campaign: row.decision or "asked" for row in await connection.execute(query)}


async def waiting(
    settings: Settings, database: Database, apps: Collection[str] | None = None
) -> Sequence[str]:
    """Campaigns of these apps, or of any, that wait for an approval which the person who acts may give; latest first."""
    query = (
        select(CampaignRow.id, CampaignRow.writers, CampaignRow.issuers, ReviewRow.asked_by)
        .join(ReviewRow, ReviewRow.campaign == CampaignRow.id)
        .where(
            CampaignRow.state == State.DRAFT,
            CampaignRow.chunks > 0,
            ReviewRow.decision == "",
        )
        .order_by(ReviewRow.asked_at.desc())
    )
    if apps is not None:
        query = query.where(CampaignRow.app.in_(apps))
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
        if not rows:
            return []
        try:
            people = await deciders(settings, connection, rows[0].id)
        except CampaignConflict:
            return []
    return [row.id for row in rows if not _same_human(settings, row, row.asked_by, people)]


async def decided(settings: Settings, database: Database) -> Sequence[Row[Any, Any, Any, Any]]:
    """Campaigns that the person who acts wrote or submitted, whose approval was decided and which wait for them: latest first.

    Id, name, decision and reason.
    """
    query = (
        select(CampaignRow.id, CampaignRow.name, ReviewRow.decision, ReviewRow.reason)
        .add_columns(CampaignRow.writers, ReviewRow.asked_by)
        .join(ReviewRow, ReviewRow.campaign == CampaignRow.id)
        .where(CampaignRow.state == State.DRAFT, CampaignRow.chunks > 0, ReviewRow.decision != "")
        .order_by(ReviewRow.decided_at.desc())
    )
    person = acting_person(settings)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return [row for row in rows if person and person in {row.asked_by, *(row.writers or ())}]


class Submission(NamedTuple):
    """A submission of a campaign for its approval that is about to be made.

    Attributes:
        digest: of what is to be approved.
        by: who submits it.
        at: when.
        card: sends a link to the reviewers of the settings, or to people with the role of those who approve in the
            directory of the campaign's app; None where there are none.
    """

    digest: str
    by: str
    at: datetime
    card: MessageSend | None


async def submission_of(
    settings: Settings, connection: AsyncConnection, row: CampaignRow
) -> Submission:
    """The submission of a campaign that is ready, by the actor.

    Raises:
        CampaignConflict: it is not ready, or was started.
    """
    by, at = author(settings), clock.now()
    _check_ready(row)
    people = settings.campaigns.reviewers or await approvers(connection, row.app, row.app)
    reviewers = [user for user in people if user not in {*(row.writers or ()), by}]
    card = await to_reviewers(settings, connection, row, reviewers, by, at) if reviewers else None
    return Submission(digest_of(row), by, at, card)


async def submit(connection: AsyncConnection, row: CampaignRow, submission: Submission) -> None:
    """Submit a campaign for its approval; once more submits it again.

    Raises:
        CampaignConflict: it is not what the card to its reviewers says any more.
    """
    _check_ready(row)
    if digest_of(row) != submission.digest:
        raise _changed(row)
    request = {
        "campaign": row.id,
        "digest": submission.digest,
        "asked_by": submission.by,
        "asked_at": submission.at,
        "decision": "",
        "decided_by": "",
        "decided_at": None,
        "reason": "",
    }
    await upsert(connection, ReviewRow, [request])
    issuers = {"issuers": with_issuers(row.issuers)}
    await change_rows(connection, CampaignRow, CampaignRow.id == row.id, **issuers)


async def decide(
    settings: Settings,
    connection: AsyncConnection,
    row: CampaignRow,
    decision: Decision,
    reason: str = "",
    version: int | None = None,
) -> MessageSend | None:
    """Approve a campaign that is ready, or reject it.

    Args:
        settings: say which users of a shell are people.
        connection: in a transaction with the lock of the campaign.
        row: the campaign.
        decision: on it.
        reason: for a rejection.
        version: that this person has read; None for the present one.

    Returns:
        The job that says so to its writers; None where no directory has them.

    Raises:
        CampaignConflict: its approval was not asked for, this person may not decide it, or it is of another version.
    """
    people = await deciders(settings, connection, row.id)
    _check_ready(row)
    review = await _find(connection, row.id)
    if review is None or review.digest != digest_of(row):
        raise CampaignConflict(row.id, "was not submitted for approval as it is now")
    check_version(row, version)
    if review.decision:
        raise CampaignConflict(
            row.id, en("is {}: {} decided it already", review.decision, review.decided_by)
        )
    problem = _same_human(settings, row, review.asked_by, people) if decision == "approved" else ""
    if problem:
        raise CampaignConflict(row.id, problem)
    by, now = people[0], clock.now()
    values = {"decision": decision, "decided_by": by, "decided_at": now, "reason": reason}
    await change_rows(connection, ReviewRow, ReviewRow.campaign == row.id, **values)
    decided = review.asked_by, decision, by, reason, now
    return await to_writers(settings, connection, row, *decided)


def _same_human(
    settings: Settings,
    row: Row[Any, Any, Any, Any] | CampaignRow,
    asked_by: str,
    people: Sequence[str],
) -> str:
    """Why an approval is no second person's: they wrote or submitted the campaign, or may be the same human as one of these; "" for none.

    Args:
        settings: as of `decide`.
        row: the campaign, with its `writers` and `issuers`.
        asked_by: who submitted it.
        people: `deciders`.
    """
    authors = {*(row.writers or ()), asked_by}
    if people[0] in authors:
        return en("must be approved by a person who neither wrote nor submitted it")
    behind = authors | {person_of(settings.campaigns, human) for human in row.issuers or ()}
    if same := next((person for person in people if person in behind), ""):
        return en(
            "must be approved by another person: {} issued the key or link by which it was written, or is approved",
            same,
        )
    return ""


async def problem_of(
    settings: Settings, connection: AsyncConnection, row: CampaignRow
) -> str | None:
    """Why a campaign that is ready must not start; None if it may, or is not ready."""
    if row.stage != CampaignStage.READY:
        return None
    review = await review_of(settings, connection, row)
    return _problem(review) if review.holds else None


async def refusal(
    rule: CampaignSettings, connection: AsyncConnection, row: CampaignRow, now: datetime
) -> str | None:
    """Why a campaign that was started must not make its first call, by the rule of the workers; None if it may.

    The door that started it may have had another rule.
    """
    if not await _is_needed(rule, connection, row, now):
        return None
    review = await _find(connection, row.id)
    if review is not None and review.decision == "approved" and review.digest == digest_of(row):
        return None
    return en("needs the approval of a second person: ask for it first")


async def _is_needed(
    rule: CampaignSettings, connection: AsyncConnection, row: CampaignRow, now: datetime
) -> bool:
    """Whether a campaign starts only once it is approved.

    Campaigns that one of its writers sent within a day without an approval count as one with it (see `humans_of`), and so
    do those of theirs that were started and wait for their time.
    """
    if row.recipients > rule.approved_above:
        return True
    if isinf(rule.approved_above):
        return False
    counted = CampaignRow
    approved = (ReviewRow.campaign == counted.id) & (ReviewRow.decision == "approved")
    waits = (counted.state == State.RUNNING) & counted.admitted_at.is_(None)
    query = (
        select(counted.writers, counted.issuers, counted.recipients)
        .outerjoin(ReviewRow, approved)
        .where(
            counted.id != row.id,
            ReviewRow.campaign.is_(None),
            or_(
                counted.admitted_at > now - COUNTED_TOGETHER,
                waits if row.state == State.DRAFT else false(),
            ),
        )
    )
    humans = humans_of(rule, row.writers, row.issuers)
    people = row.recipients + sum(
        other.recipients
        for other in await connection.execute(query)
        if humans & humans_of(rule, other.writers, other.issuers)
    )
    return bool(people > rule.approved_above)


def _problem(review: CampaignReview) -> str:
    match review.state:
        case "asked":
            return en("waits for the approval that {} asked for", review.asked_by)
        case "rejected":
            return en("was rejected by {}: {}", review.decided_by, review.reason)
        case "outdated":
            return en("was changed since its approval was asked for: ask again")
        case _:
            return en("needs the approval of a second person: ask for it first")


async def void(connection: AsyncConnection, campaign: str) -> None:
    """Forget the approval of a campaign that becomes a draft again."""
    await connection.execute(delete(ReviewRow).where(ReviewRow.campaign == campaign))


def check_version(row: CampaignRow, version: int | None) -> None:
    """Refuse what is asked of the version that a person has read, where the campaign is another by now.

    Args:
        row: the campaign.
        version: that was read; None for any.

    Raises:
        CampaignConflict: it was changed since.
    """
    if version not in {None, row.version}:
        raise _changed(row)


def _changed(row: CampaignRow) -> CampaignConflict:
    return CampaignConflict(row.id, "was changed since it was read: look at it again")


def digest_of(row: CampaignRow) -> str:
    """Digest of what is approved: a version of a campaign with its text, people, time, rate and app. A start leaves it as it is."""
    start_at = row.start_at and row.start_at.isoformat()
    people = row.people_digest
    fields = [row.version, row.app, row.message, start_at, row.quiet, row.rate, people]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _check_ready(row: CampaignRow) -> None:
    if row.stage != CampaignStage.READY:
        raise CampaignConflict(row.id, en("is {}: only one that is ready is approved", row.stage))


async def _find(connection: AsyncConnection, campaign: str) -> ReviewRow | None:
    async with AsyncSession(connection) as session:
        return await session.get(ReviewRow, campaign)
