"""API keys in SQL: made, found, rotated and revoked."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import KeyConflict, KeyNotFound
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.http.api_keys import (
    ANY,
    MOST_OLD_SECRETS,
    SENDER,
    ApiKey,
    Grant,
    IssuedKey,
    KeyStatus,
)
from dingrelay_workers.keys import last_use, secret
from dingrelay_workers.keys.cache import KeyCache
from dingrelay_workers.keys.last_use import LastUse
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.stored_key import StoredKey, columns

PATIENCE = 1.5
"""Seconds that a request waits for the database; a refused client retries within two."""

_WRITER = "api keys"


class SqlKeyStore:
    """The API keys. Every method raises `ServiceUnavailable` where the database is away.

    A key that is revoked here is refused here at once, and by other gateways within `cache.LIVES`
    seconds.

    Args:
        database: with its tables.
        patience: seconds that the database may take.
        write_uses_every: seconds between two writes of the last uses.
    """

    def __init__(
        self,
        database: Database,
        *,
        patience: float = PATIENCE,
        write_uses_every: float = last_use.EVERY,
    ) -> None:
        self._database = database
        self._patience = patience
        self._cache = KeyCache(self._read)
        self._uses = LastUse(self._write_uses, every=write_uses_every)

    async def close(self) -> None:
        """Write the last uses that are left. The database stays open."""
        await self._uses.close()

    async def verify(self, presented: str) -> ApiKey | None:
        """The live key with this text; None if it is wrong, expired or revoked."""
        parts = secret.split(presented)
        return await self._verify(*parts) if parts else None

    async def verify_pair(self, key_id: str, given: str) -> ApiKey | None:
        """The same for id and secret apart; the secret may be the whole text of the key."""
        parts = secret.split(f"{key_id}.{given.removeprefix(f'{key_id}.')}")
        return await self._verify(*parts) if parts else None

    def digest(self, key_id: str, given: str) -> str:
        """The stored digest of a secret."""
        return secret.digest(key_id, given)

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """The live key with this id, if it takes the secret of this digest."""
        stored = await self._live(key_id)
        if stored is None or not stored.takes(digest, datetime.now(UTC)):
            return None
        self._uses.note(key_id)
        return stored.key

    async def create(self, grant: Grant, *, seed: bytes | None = None) -> IssuedKey:
        """Make a key; a grant without a sender gets one. Of each seed there is one key."""
        key_id, text = secret.new_id(seed), secret.new_secret(seed)
        grant = replace(grant, sender=grant.sender or _sender(grant, key_id))
        row = {
            **columns(grant),
            "id": key_id,
            "digest": secret.digest(key_id, text),
            "old_secrets": {},
            "created_at": datetime.now(UTC),
        }
        async with self._writing() as connection:
            query = select(ApiKeyRow.id).where(ApiKeyRow.id == key_id)
            if seed is None or (await connection.scalar(query)) is None:
                await connection.execute(insert(ApiKeyRow).values(**row))
            stored = await _stored(connection, key_id)
        return IssuedKey(stored.key, f"{key_id}.{text}")

    async def get(self, key_id: str) -> KeyStatus:
        """The key with this id, live or not."""
        async with self._reading() as connection:
            return (await _stored(connection, key_id)).status(datetime.now(UTC))

    async def list(self) -> Sequence[KeyStatus]:
        """All keys, the newest first."""
        query = select(ApiKeyRow.__table__).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
        async with self._reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        now = datetime.now(UTC)
        return [StoredKey.of(row).status(now) for row in rows]

    async def rotate(
        self, key_id: str, *, overlap: timedelta, seed: bytes | None = None
    ) -> IssuedKey:
        """Give it a new secret; those before are taken for so long, older ones no longer than before.

        So a rotation that is repeated ends no secret that clients use; with the same seed it changes nothing.
        """
        text, now = secret.new_secret(seed), datetime.now(UTC)
        digest, until = secret.digest(key_id, text), now + overlap
        async with self._writing() as connection:
            stored = await _stored(connection, key_id)
            if end := stored.end(now):
                raise KeyConflict(key_id, f"{end}; create another")
            if digest in {stored.digest, *stored.old_secrets}:
                ends = stored.status(now).old_secret_until
                return IssuedKey(stored.key, f"{key_id}.{text}", old_secret_until=ends)
            old = {**stored.old(now), stored.digest: until} if overlap else {}
            if len(old) > MOST_OLD_SECRETS:
                problem = f"has {MOST_OLD_SECRETS} old secrets; an overlap of 0s ends them"
                raise KeyConflict(key_id, problem)
            await _change(
                connection,
                key_id,
                digest=digest,
                old_secrets={each: min(end, until).isoformat() for each, end in old.items()},
            )
        self._cache.forget(key_id)
        return IssuedKey(
            stored.key, f"{key_id}.{text}", old_secret_until=until if overlap else None
        )

    async def revoke(self, key_id: str) -> KeyStatus:
        """Refuse it from now on."""
        now = datetime.now(UTC)
        async with self._writing() as connection:
            stored = await _stored(connection, key_id)
            if stored.revoked_at is None:
                await _change(connection, key_id, revoked_at=now)
                stored = replace(stored, revoked_at=now)
        self._cache.forget(key_id)
        return stored.status(now)

    async def _verify(self, key_id: str, given: str) -> ApiKey | None:
        # The digest is made first, so that an unknown id is no faster for it.
        return await self.find(key_id, secret.digest(key_id, given))

    async def _live(self, key_id: str) -> StoredKey | None:
        stored = await self._cache.get(key_id)
        return stored if stored and not stored.end(datetime.now(UTC)) else None

    async def _read(self, key_id: str) -> StoredKey | None:
        try:
            async with self._reading() as connection:
                return await _stored(connection, key_id)
        except KeyNotFound:
            return None

    async def _write_uses(self, used: Mapping[str, datetime]) -> None:
        async with self._writing() as connection:
            for key_id, used_at in used.items():
                await _change(connection, key_id, used_at=used_at)

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(self._patience), self._database.read() as connection:
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(self._patience), self._database.write(_WRITER) as connection:
            yield connection


async def _stored(connection: AsyncConnection, key_id: str) -> StoredKey:
    query = select(ApiKeyRow.__table__).where(ApiKeyRow.id == key_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise KeyNotFound(key_id)
    return StoredKey.of(row)


async def _change(connection: AsyncConnection, key_id: str, **values: object) -> None:
    await connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(**values))


def _sender(grant: Grant, key_id: str) -> str:
    """The sender of a key that was given none: each its own, so that keys share a lane evenly."""
    if ANY in grant.scopes:
        return ANY
    return grant.name if SENDER.fullmatch(grant.name) else key_id
