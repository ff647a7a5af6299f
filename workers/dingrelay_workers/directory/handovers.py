"""Userids that may be another person's from now on: DingTalk gives them away again."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.nouns import NOUNS


async def hand_over(
    connection: AsyncConnection, app: str, userids: Collection[str], *, given_away: bool
) -> None:
    """End what the nouns keep for who had these userids, in the transaction that forgets who that was.

    `given_away`: another person has them; or they are free, as far as this directory knows.
    """
    if userids:
        for noun in NOUNS:
            for part in noun.handovers:
                await noun.load(part)(connection, app, sorted(userids), given_away=given_away)
