"""Pictures that were uploaded for campaigns: shown before they are sent, since no page can fetch them from DingTalk."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Row, delete, select

from dingrelay_producers.actor import current_reach
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import writable
from dingrelay_workers.campaigns.models import PictureRow
from dingrelay_workers.campaigns.reach import READ
from dingrelay_workers.database.database import Database, upsert
from dingrelay_workers.maintenance.clean_up import CleanUp

KEPT = timedelta(days=400)
LARGEST = 5_000_000
"""Bytes of a picture that is kept."""
FORMATS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}
"""How pictures begin → media type (API §11.5)."""


class Pictures:
    """Pictures of the apps of the actor of the present task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, app: str, name: str, media_id: str, content: bytes) -> None:
        """Keep a picture that DingTalk has under this id; one that is too large, or no picture, is not kept."""
        if len(content) > LARGEST or not content.startswith(tuple(FORMATS)):
            return
        named = writable(name).replace("\0", "")[:255]
        row = {
            "media_id": media_id,
            "app": app,
            "name": named,
            "content": content,
            "at": clock.now(),
        }
        async with self._database.write("campaign pictures") as connection:
            await upsert(connection, PictureRow, [row])

    async def find(self, media_id: str) -> tuple[str, bytes] | None:
        """Media type and bytes of a picture; None if it is not kept, or not theirs."""
        query = select(PictureRow.app, PictureRow.content).where(PictureRow.media_id == media_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or not current_reach().reaches_app(READ, row.app):
            return None
        return next(
            (kind, row.content)
            for beginning, kind in FORMATS.items()
            if row.content.startswith(beginning)
        )

    async def latest(self, app: str, limit: int) -> Sequence[Row[str, str]]:
        """Ids and names of an app's pictures, the latest first."""
        current_reach().check(READ, app=app)
        query = select(PictureRow.media_id, PictureRow.name).where(PictureRow.app == app)
        async with self._database.read() as connection:
            return (
                await connection.execute(query.order_by(PictureRow.at.desc()).limit(limit))
            ).all()


async def clean_up(work: CleanUp) -> None:
    """Delete old pictures."""
    await delete_before(work.database, work.now() - KEPT)


async def delete_before(database: Database, moment: datetime) -> None:
    """Delete the pictures that were uploaded last before a moment."""
    async with database.write("campaign pictures") as connection:
        await connection.execute(delete(PictureRow).where(PictureRow.at < moment))
