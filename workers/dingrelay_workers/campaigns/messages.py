"""Campaigns among the messages to a person."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.history_documents import Message
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.report import campaign_of_test, campaigns_of


async def add_campaigns(
    connection: AsyncConnection,
    user: str,
    jobs: Sequence[tuple[Message, str]],
    *,
    app: str | None,
    most: int,
    before: tuple[datetime, str] | None,
) -> list[Message]:
    """The messages of jobs, of which tests get the name of their campaign, and those of campaigns.

    Args:
        connection: to the database.
        user: their person.
        jobs: message and idempotency key of each job.
        app: of this app only; None for all.
        most: campaigns at most.
        before: only campaigns behind this moment and campaign.
    """
    campaigns = {campaign_of_test(key) for _, key in jobs} - {""}
    names: dict[tuple[str, str], str] = {}
    if campaigns:
        query = select(CampaignRow.id, CampaignRow.app, CampaignRow.name)
        rows = await connection.execute(query.where(CampaignRow.id.in_(campaigns)))
        names = {(row.id, row.app): row.name for row in rows}
    messages: list[Message] = []
    for message, key in jobs:
        campaign = campaign_of_test(key)
        name = names.get((campaign, message.app))
        update = {} if name is None else {"campaign": campaign, "name": name}
        messages.append(message.model_copy(update=update))
    return messages + await campaigns_of(connection, user, app=app, most=most, before=before)
