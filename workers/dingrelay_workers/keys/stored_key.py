"""An API key as the database has it: what it may do, and what its secrets are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, cast

from sqlalchemy import RowMapping

from dingrelay_tasks.contract import Lane
from dingrelay_workers.http.api_keys import ApiKey, Grant, KeyStatus, Rate
from dingrelay_workers.keys import secret


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """One row of the table.

    Attributes:
        digest: of its secret.
        old_secrets: the digests of those before → until when each is taken.
    """

    key: ApiKey
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    digest: str = field(repr=False)
    old_secrets: Mapping[str, datetime] = field(repr=False)

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The key of a row."""
        return cls(
            key=ApiKey(
                id=row["id"],
                name=row["name"],
                scopes=frozenset(row["scopes"]),
                apps=frozenset(row["apps"]),
                lanes=frozenset(cast("list[Lane]", row["lanes"])),
                sender=row["sender"],
                rate=Rate.parse(row["rate"]) if row["rate"] else None,
                expires_at=row["expires_at"],
            ),
            created_at=row["created_at"],
            used_at=row["used_at"],
            revoked_at=row["revoked_at"],
            digest=row["digest"],
            old_secrets={
                digest: datetime.fromisoformat(until)
                for digest, until in row["old_secrets"].items()
            },
        )

    def end(self, now: datetime) -> str:
        """Why it is refused: ``is revoked`` or ``has expired``; "" while it is live."""
        if self.revoked_at is not None:
            return "is revoked"
        if self.key.expires_at is not None and self.key.expires_at <= now:
            return "has expired"
        return ""

    def takes(self, given: str, now: datetime) -> bool:
        """Whether this is the digest of its secret, or of one before that is taken still."""
        # All are compared, so that the time taken does not depend on which one matches.
        matching = [secret.matches(each, given) for each in (self.digest, *self.old(now))]
        return any(matching)

    def old(self, now: datetime) -> Mapping[str, datetime]:
        """The secrets before the present one that are taken still."""
        return {digest: until for digest, until in self.old_secrets.items() if until > now}

    def status(self, now: datetime) -> KeyStatus:
        """The key as a list shows it."""
        ends = [] if self.end(now) else [*self.old(now).values()]
        return KeyStatus(
            key=self.key,
            created_at=self.created_at,
            used_at=self.used_at,
            revoked_at=self.revoked_at,
            old_secret_until=max(ends, default=None),
        )


def columns(grant: Grant) -> dict[str, Any]:
    """The columns that say what a key may do."""
    return {
        "name": grant.name,
        "scopes": sorted(grant.scopes),
        "apps": sorted(grant.apps),
        "lanes": sorted(grant.lanes),
        "sender": grant.sender,
        "rate": str(grant.rate) if grant.rate else None,
        "expires_at": grant.expires_at,
    }
