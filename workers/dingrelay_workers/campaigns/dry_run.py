"""A dry run: every call of a campaign is made up and checked, and none leaves.

It reads the database only. A Python API hands out the same `DryRun`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dingrelay_tasks.campaign_chunk import CampaignChunk
from dingrelay_workers.campaigns.models import ChunkState
from dingrelay_workers.campaigns.store import CampaignStore

SHOWN = 3


@dataclass(frozen=True, slots=True)
class DryRun:
    """The messages that a campaign would send from its present state.

    Attributes:
        recipients: people who would be called for.
        calls: how many calls that takes.
        first: the first calls, as users and message.
    """

    recipients: int
    calls: int
    first: tuple[tuple[list[str], Mapping[str, Any]], ...]


async def dry_run(store: CampaignStore, campaign: str) -> DryRun:
    """Walk all chunks that are still to be sent.

    Raises:
        CampaignNotFound: there is none with this id.
        ContractError: a chunk is none that could be sent.
    """
    row = await store.get(campaign)
    recipients = calls = 0
    first: list[tuple[list[str], Mapping[str, Any]]] = []
    async for page in store.chunks(campaign):
        for chunk in page:
            if chunk.state == ChunkState.SETTLED:
                continue
            users, message = chunk.users.split(","), chunk.message or row.message
            CampaignChunk.parse(
                {
                    "app": row.app,
                    "campaign": campaign,
                    "number": chunk.number,
                    "users": users,
                    "message": message,
                }
            )
            recipients += len(users)
            calls += 1
            if len(first) < SHOWN:
                first.append((users, message))
    return DryRun(recipients, calls, tuple(first))
