"""Whether the database has settled chunks that Redis does not know: their jobs end without a call."""

from sqlalchemy import func, inspect, or_, select

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import moment_of
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState
from dingrelay_workers.store import backups
from dingrelay_workers.store.backups import BackupDifference, Compared


def compare(servers: Compared) -> BackupDifference | None:
    """Compare when chunks were last settled, by Redis and by the database."""
    settled = servers.number(keys.CAMPAIGNS_SETTLED)
    since = moment_of(servers.now() - keys.ENDINGS_TTL_MS)
    with servers.engine.connect() as connection:
        if not settled or not inspect(connection).has_table(ChunkRow.__tablename__):
            return None
        newest = connection.scalar(
            select(func.max(ChunkRow.called_at))
            .join(CampaignRow, CampaignRow.id == ChunkRow.campaign)
            .where(
                ChunkRow.state == ChunkState.SETTLED,
                or_(CampaignRow.ended_at.is_(None), CampaignRow.ended_at > since),
            )
        )
    called = backups.milliseconds_of(newest)
    if called - settled <= backups.MARGIN_MS:
        return None
    return backups.redis_is_older(
        en(
            "Redis is older than the database: chunks of campaigns were settled until {}, in "
            "the database until {}",
            backups.shown(settled),
            backups.shown(called),
        )
    )
