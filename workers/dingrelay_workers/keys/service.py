"""Verbs of API keys: made, rotated and revoked; and how one is found.

A key's text is ``drk_<id>.<secret>``. The secret is 256 random bits, so there is nothing to guess that a
slow hash would protect: SHA-256 is what fits, and each request can afford it. A password hash is for what
people choose.
"""

import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_producers.actor import SHELL, current_actor, current_reach, current_seed
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.errors import DingrelayError, KeyConflict, KeyNotFound, NotPermitted
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import Sentence, en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.directory.audience import who_is_absent
from dingrelay_workers.http.api_keys import (
    ANY,
    KEY_ID,
    MOST_OLD_SECRETS,
    SENDER,
    ApiKey,
    Grant,
    public_id,
)
from dingrelay_workers.http.last_known import LastKnown
from dingrelay_workers.keys.documents import (
    AS_USUAL,
    IssuedKey,
    KeyDocument,
    KeyRequest,
    RotationRequest,
)
from dingrelay_workers.keys.models import ApiKeyRow

TIMEOUT = 1.5
"""Seconds that a request waits for the database; a refused client retries within two."""

FRESH = 5.0
"""Seconds for which a key is not read again: how long a key that was revoked elsewhere still works.

This is short where a key was lost, and at a thousand requests a second it saves all reads but one in five
thousand. Unknown ids are read each time: a client may make up any number.
"""
WRITE_USES_EVERY = 60.0
"""Seconds between two times that a gateway writes down what was used since."""

_SECRET_BYTES = 32

log = get_logger("dingrelay.api_keys")

WRITER = "api keys"
_SCOPE = "keys:write"
_STATES: Mapping[str, Literal["live", "expired", "revoked"]] = {
    "": "live",
    "has expired": "expired",
    "is revoked": "revoked",
}
"""Why a key is refused → its state."""


class StoredKey(ApiKey, frozen=True):
    """One row of the table."""

    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    digest: Annotated[str, Field(repr=False)]
    """Digest of its secret."""
    old_secrets: Annotated[Mapping[str, datetime], Field(repr=False)]
    """The digests of those before → until when each is taken."""

    @cached_property
    def key(self) -> ApiKey:
        """The key, without what its secret is checked against."""
        return ApiKey(**{name: getattr(self, name) for name in ApiKey.model_fields})

    @property
    def has_end(self) -> bool:
        """Whether it depends on the time if it, or a secret of it, is taken."""
        return self.expires_at is not None or bool(self.old_secrets)

    def end(self, now: datetime) -> str:
        """Why it is refused: ``is revoked`` or ``has expired``; "" while it is live."""
        if self.revoked_at is not None:
            return en("is revoked")
        if self.expires_at is not None and self.expires_at <= now:
            return en("has expired")
        return ""

    def takes(self, digest: str, now: datetime) -> bool:
        """Whether this is the digest of its secret, or of one before that is taken still."""
        # All are compared, so that the time taken does not depend on which one matches, nor how far.
        matching = [
            hmac.compare_digest(candidate, digest) for candidate in (self.digest, *self.old(now))
        ]
        return any(matching)

    def old(self, now: datetime) -> Mapping[str, datetime]:
        """The secrets before the present one that are taken still."""
        return {digest: until for digest, until in self.old_secrets.items() if until > now}

    def old_until(self, now: datetime) -> datetime | None:
        """Until when one of these is taken; None for none."""
        return None if self.end(now) else max(self.old(now).values(), default=None)

    @property
    def people(self) -> Sequence[str]:
        """The userids of its owner, and of those who were shown a secret of it."""
        humans = dict.fromkeys(filter(None, [self.owner, *self.issuers]))
        return [human for human in humans if not human.startswith(SHELL)]

    def document(self, left: Collection[str]) -> KeyDocument:
        """The key as it is shown, where these people are in no directory."""
        now = clock.now()
        leavers = [person for person in self.people if person in left]
        return KeyDocument(
            **dict(self),
            state=_STATES[self.end(now)],
            left=leavers,
            warning=self._warning(leavers) if leavers and not self.end(now) else None,
            last_used_at=self.used_at,
            old_secret_until=self.old_until(now),
        )

    def _warning(self, leavers: Sequence[str]) -> Sentence:
        if self.owner in leavers:
            return en(
                "goes on though its owner {} is not in the directory: give it another owner and a new secret, with an overlap of 0s",
                self.owner,
            )
        return en(
            "goes on though {}, not in the directory, issued it: give it a new secret, with an overlap of 0s",
            ", ".join(leavers),
        )


class LastUse:
    """Uses that are not written yet, the latest of each key. They are written beside the requests.

    Args:
        write: stores them, by key id.
        every: seconds between two writes.
    """

    def __init__(
        self,
        write: Callable[[Mapping[str, datetime]], Awaitable[None]],
        *,
        every: float = WRITE_USES_EVERY,
    ) -> None:
        self._write = write
        self._every = every
        self._used: dict[str, datetime] = {}
        self._writer: asyncio.Task[None] | None = None

    def note(self, key_id: str, now: datetime) -> None:
        """It was used just now."""
        self._used[key_id] = now
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_later())

    async def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._flush()

    async def _write_later(self) -> None:
        while self._used:
            await asyncio.sleep(self._every)
            await self._flush()
        self._writer = None

    async def _flush(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._write(used)
        except DingrelayError as error:
            # Next time, unless there were later uses.
            self._used = {**used, **self._used}
            log.warning("last_use_not_written", keys=len(used), reason=str(error))
        except asyncio.CancelledError:
            self._used = {**used, **self._used}
            raise


class KeyService:
    """The API keys. Every method raises `ServiceUnavailable` where the database is away.

    So do `verify`, `verify_pair` and `find` of a key that has an end, as long as the time of Redis has not been read.

    Verbs are for the actor of the present task, and so are `get` and `list`: an actor gives no more than it has, and a
    key that may do more is not there for it.

    Keys that were used before are verified for a while without it (`last_known.LIVES`). A key that is
    revoked here is refused here at once, and by other gateways within `FRESH` seconds.

    Args:
        database: with its tables.
        timeout: seconds that the database may take.
        write_uses_every: seconds between two writes of the last uses.
    """

    NOUN = "key"

    def __init__(
        self,
        database: Database,
        *,
        timeout: float = TIMEOUT,
        write_uses_every: float = WRITE_USES_EVERY,
    ) -> None:
        self._database = database
        self._timeout = timeout
        self._known = LastKnown[StoredKey | None](fresh=FRESH)
        self._uses = LastUse(self._write_uses, every=write_uses_every)

    @property
    def any_known(self) -> bool:
        """Whether some key would be taken while the database is away."""
        return self._known.any

    async def close(self) -> None:
        """Write the last uses that are left. The database stays open."""
        await self._uses.close()

    async def verify(self, presented: str) -> ApiKey | None:
        """The live key with this text; None if it is wrong, expired or revoked."""
        parts = split_key(presented)
        return await self._verify(*parts) if parts else None

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        """The same for id and secret apart; the secret may be the whole text of the key."""
        parts = split_key(f"{key_id}.{secret.removeprefix(f'{key_id}.')}")
        return await self._verify(*parts) if parts else None

    def digest(self, key_id: str, secret: str) -> str:
        """The stored digest of a secret."""
        return digest_of(key_id, secret)

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """The live key with this id, if it takes the secret of this digest."""
        stored = await self._known.ask(key_id, lambda: self._read(key_id))
        if stored is None:
            return None
        now = clock.CLOCK.shared_now() if stored.has_end else clock.now()
        if stored.end(now) or not stored.takes(digest, now):
            return None
        self._uses.note(key_id, now)
        return stored.key

    @verb("POST /v1/keys", scope=_SCOPE)
    async def create(self, request: KeyRequest) -> IssuedKey:
        """Make an API key.

        It may do no more than the key that asks for it. Its text is shown this once only. A scope of ``*`` is all.
        """
        grant = request.grant()
        grant = grant.model_copy(update={"sender": grant.sender or current_reach().passed_sender})
        _check_given(grant)
        return await self.issue(grant)

    async def issue(self, grant: Grant) -> IssuedKey:
        """Make a key of these permissions; a grant without a sender gets one. Of each seed there is one key."""
        seed = current_seed()
        key_id, text = new_id(seed), new_secret(seed)
        grant = grant.model_copy(update={"sender": grant.sender or _sender(grant, key_id)})
        row = {
            **_columns(grant),
            "id": key_id,
            "digest": digest_of(key_id, text),
            "old_secrets": {},
            "created_at": clock.now(),
            "issuers": current_actor().hands,
        }
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            query = select(ApiKeyRow.id).where(ApiKeyRow.id == key_id)
            if seed is None or (await connection.scalar(query)) is None:
                await connection.execute(insert(ApiKeyRow).values(**row))
                await audit.record_verb(connection, self.create, key_id, after=_columns(grant))
        return IssuedKey(id=key_id, key=f"{key_id}.{text}", old_secret_until=None)

    async def get(self, key_id: str) -> KeyDocument:
        """How an API key stands, live or not."""
        async with answering(self._timeout), self._database.read() as connection:
            stored = await _visible(connection, key_id)
            return stored.document(await who_is_absent(connection, stored.people))

    async def list(self) -> Sequence[KeyDocument]:
        """The keys, the newest first."""
        query = select(ApiKeyRow.__table__).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
        async with answering(self._timeout), self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            stored_keys = [
                stored for stored in map(StoredKey.model_validate, rows) if _sees(stored)
            ]
            people = {person for stored in stored_keys for person in stored.people}
            left = await who_is_absent(connection, people)
        return [stored.document(left) for stored in stored_keys]

    @verb("POST /v1/keys/{id}/rotate", scope=_SCOPE)
    async def rotate(self, key_id: str, request: RotationRequest = AS_USUAL) -> IssuedKey:
        """Give an API key a new secret, and another owner if one is named.

        It is shown this once only. The key's id stays.
        """
        # Those before are taken for the overlap, older ones no longer than before. So a rotation that is repeated
        # ends no secret that clients use; with the same seed it changes nothing.
        text, now, overlap = new_secret(current_seed()), clock.now(), request.length()
        digest, until = digest_of(key_id, text), now + overlap
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _visible(connection, key_id)
            owner = request.owner or stored.owner
            # The actor gets the secret and so the key: the same check as for a new key.
            _check_given(stored.key.model_copy(update={"owner": owner}))
            if end := stored.end(now):
                raise KeyConflict(key_id, en("{}; create another", end))
            if digest in {stored.digest, *stored.old_secrets}:
                ends = stored.old_until(now)
                return IssuedKey(id=key_id, key=f"{key_id}.{text}", old_secret_until=ends)
            old = {**stored.old(now), stored.digest: until} if overlap else {}
            if len(old) > MOST_OLD_SECRETS:
                problem = en("has {} old secrets; an overlap of 0s ends them", MOST_OLD_SECRETS)
                raise KeyConflict(key_id, problem)
            handover = {} if owner == stored.owner else {"owner": owner}
            # Who was shown a secret that is taken no more can't act with the key. An owner who was knows the old one.
            former = [*stored.issuers, *({stored.owner} - {owner, ""})] if old else []
            await _change(
                connection,
                key_id,
                **handover,
                digest=digest,
                issuers=[*dict.fromkeys([*former, *current_actor().hands])],
                old_secrets={
                    old_digest: min(end, until).isoformat() for old_digest, end in old.items()
                },
            )
            before = dict.fromkeys(handover, stored.owner)
            after = {"old_secret_until": until if overlap else None, **handover}
            await audit.record_verb(connection, self.rotate, key_id, before=before, after=after)
        self._known.forget(key_id)
        return IssuedKey(
            id=key_id, key=f"{key_id}.{text}", old_secret_until=until if overlap else None
        )

    @verb("POST /v1/keys/{id}/revoke", scope=_SCOPE)
    async def revoke(self, key_id: str) -> KeyDocument:
        """Refuse an API key from now on.

        Gateways that run notice within 5 s.
        """
        now = clock.now()
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _visible(connection, key_id)
            if stored.revoked_at is None:
                await _change(connection, key_id, revoked_at=now)
                before = _columns(stored.key)
                await audit.record_verb(connection, self.revoke, key_id, before=before)
                stored = stored.model_copy(update={"revoked_at": now})
            left = await who_is_absent(connection, stored.people)
        self._known.forget(key_id)
        return stored.document(left)

    async def _verify(self, key_id: str, secret: str) -> ApiKey | None:
        # The digest is made first, so that an unknown id is no faster for it.
        return await self.find(key_id, digest_of(key_id, secret))

    async def _read(self, key_id: str) -> StoredKey | None:
        try:
            async with answering(self._timeout), self._database.read() as connection:
                return await _stored(connection, key_id)
        except KeyNotFound:
            return None

    async def _write_uses(self, used: Mapping[str, datetime]) -> None:
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            for key_id, used_at in used.items():
                await _change(connection, key_id, used_at=used_at)


async def _stored(connection: AsyncConnection, key_id: str) -> StoredKey:
    query = select(ApiKeyRow.__table__).where(ApiKeyRow.id == key_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise KeyNotFound(key_id)
    return StoredKey.model_validate(row)


async def _visible(connection: AsyncConnection, key_id: str) -> StoredKey:
    """The same, if the actor sees it; the error does not reveal which."""
    stored = await _stored(connection, key_id)
    if not _sees(stored):
        raise KeyNotFound(key_id)
    return stored


def _sees(stored: StoredKey) -> bool:
    return current_reach().holds(_SCOPE, stored.key)


def _check_given(grant: Grant) -> None:
    """Refuse permissions that the actor does not have, and so may not give.

    Raises:
        NotPermitted: names the field that is too much.
    """
    if lacking := current_reach().lacks(_SCOPE, grant):
        raise NotPermitted(*lacking)


async def _change(connection: AsyncConnection, key_id: str, **values: object) -> None:
    await connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(**values))


def _sender(grant: Grant, key_id: str) -> str:
    """The sender of a key that was given none: each its own, so that keys share a lane evenly."""
    if ANY in grant.scopes:
        return ANY
    return grant.name if SENDER.fullmatch(grant.name) else key_id


def _columns(grant: Grant) -> dict[str, Any]:
    """The columns that say what a key may do."""
    return grant.model_dump(include=set(Grant.model_fields))


def new_id(seed: bytes | None = None) -> str:
    """The public half. A seed always gives the same one."""
    return public_id("drk_", _random(seed, b"id"))


def new_secret(seed: bytes | None = None) -> str:
    """The secret half: 43 characters that a URL, a header and a shell take as they are."""
    return urlsafe_b64encode(_random(seed, b"secret")).decode().rstrip("=")


def _random(seed: bytes | None, purpose: bytes) -> bytes:
    if seed is None:
        return secrets.token_bytes(_SECRET_BYTES)
    return hmac.digest(seed, purpose, hashlib.sha256)


def split_key(presented: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None if it is no key's."""
    key_id, dot, secret = presented.partition(".")
    return (key_id, secret) if dot and KEY_ID.fullmatch(key_id) else None


def digest_of(key_id: str, secret: str) -> str:
    """The stored digest of a secret and its id: one key's digest is no use in another's row."""
    # A secret that is no Unicode belongs to no key; it must not fail either.
    return hashlib.sha256(f"{key_id}.{secret}".encode(errors="surrogatepass")).hexdigest()
