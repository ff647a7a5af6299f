"""The campaigns that an actor sees and changes: those of their apps and senders, and what was submitted to reviewers."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor, current_reach
from dingrelay_producers.errors import CampaignNotFound
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.models import HIDDEN, LANE, CampaignRow, ReviewRow
from dingrelay_workers.campaigns.store import find
from dingrelay_workers.database.database import Database

READ, WRITE, APPROVE = "campaigns:read", "campaigns:write", "campaigns:approve"


async def find_permitted(
    connection: AsyncConnection, campaign: str, scope: str, *, hidden: bool = False
) -> CampaignRow:
    """The campaign with this id, of which the actor may do what has this scope.

    Raises:
        CampaignNotFound: there is none, or it is not theirs; the error does not reveal which.
        NotPermitted: it is to be changed, and its lane is not theirs.
    """
    row, reach = await find(connection, campaign, hidden=hidden), current_reach()
    if not reach.reaches(scope, app=row.app, sender=row.sender) and (
        scope == WRITE or not await _is_reviewed_by_actor(connection, row)
    ):
        raise CampaignNotFound(campaign)
    if scope == WRITE:
        check_permitted(row.app)
    return row


@asynccontextmanager
async def changing(
    database: Database, campaign: str, scope: str = WRITE, *, hidden: bool = False
) -> AsyncGenerator[tuple[AsyncConnection, CampaignRow]]:
    """A transaction with the lock of a campaign, of which the actor may do what has this scope.

    Raises:
        CampaignNotFound, NotPermitted: as `find_permitted`.
    """
    async with database.write(f"campaign {campaign}") as connection:
        yield connection, await find_permitted(connection, campaign, scope, hidden=hidden)


async def _is_reviewed_by_actor(connection: AsyncConnection, row: CampaignRow) -> bool:
    """Whether a campaign of another sender was submitted for an approval that the actor may give."""
    reach = current_reach()
    if not reach.reaches(APPROVE, app=row.app, sender=reach.default_sender):
        return False
    submitted = select(exists().where(ReviewRow.campaign == row.id))
    return bool(await connection.scalar(submitted))


def check_permitted(app: str, sender: str = "") -> None:
    """Refuse a campaign of an app or a sender that is not the actor's, or one in a lane that is not.

    Raises:
        NotPermitted: names the field.
    """
    current_reach().check(WRITE, app=app, lane=LANE, sender=sender)


def permitted_sender(settings: Settings, app: str, sender: str) -> str:
    """The sender of a campaign that the actor makes, who may have one of this app and this sender, or of their own.

    Raises:
        NotPermitted: names the field.
    """
    check_permitted(app, sender)
    return sender or current_reach().default_sender or settings.sender


async def check_left_out(connection: AsyncConnection, campaigns: Sequence[str]) -> None:
    """Refuse campaigns whose people are to be left out, where the actor could not write them.

    Raises:
        ContractError: names the first of them.
    """
    reach = current_reach()
    if reach.sees_all or not campaigns:  # what there is not, the gathering of people names
        return
    query = select(CampaignRow.id, CampaignRow.app, CampaignRow.sender).where(
        CampaignRow.id.in_(campaigns), CampaignRow.state.not_in(HIDDEN)
    )
    rows = await connection.execute(query)
    theirs = {row.id for row in rows if reach.reaches(WRITE, app=row.app, sender=row.sender)}
    for at, campaign in enumerate(campaigns):
        if campaign not in theirs:
            raise ContractError(f"without_campaigns.{at}", "there is no such campaign")


def id_for_request() -> str | None:
    """The id of the campaign that the actor's request makes, the same for a repetition; None for any."""
    once = current_actor().once
    return str(UUID(once)) if once else None
