"""An endpoint as its row tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, cast

from sqlalchemy import RowMapping

from dingrelay_producers.gateway.backend.webhooks import Endpoint, EndpointState, Subscription
from dingrelay_workers.webhooks import secret
from dingrelay_workers.webhooks.secret import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEndpoint:
    """One row of the table.

    Attributes:
        generations: its secrets, the newest first.
        position: number of the last notice that was released; `skipped`, `replay_…` as the columns.
    """

    endpoint: Endpoint
    generations: Sequence[Generation]
    position: int
    skipped: int
    replay_round: int
    replay_position: int
    replay_until: int

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The endpoint of a row."""
        generations = [Generation.read(kept) for kept in row["secrets"]]
        return cls(
            endpoint=Endpoint(
                id=row["id"],
                name=row["name"],
                url=row["url"],
                types=tuple(row["types"]),
                apps=frozenset(row["apps"]),
                senders=frozenset(row["senders"]),
                kinds=frozenset(row["kinds"]),
                state=cast("EndpointState", row["state"]),
                reason=row["reason"],
                created_at=row["created_at"],
                changed_at=row["changed_at"],
                old_secret_until=max(
                    (each.until for each in generations if each.until), default=None
                ),
            ),
            generations=generations,
            position=row["position"],
            skipped=row["skipped"],
            replay_round=row["replay_round"],
            replay_position=row["replay_position"],
            replay_until=row["replay_until"],
        )

    @property
    def id(self) -> str:
        """Its id."""
        return self.endpoint.id

    @property
    def enabled(self) -> bool:
        """Whether it is told anything now."""
        return self.endpoint.state == "enabled"

    @property
    def replays(self) -> bool:
        """Whether a replay is under way."""
        return self.replay_position < self.replay_until

    def secrets(self, keys: Sequence[str], now: datetime) -> list[bytes]:
        """The secrets that sign now, the newest first.

        Raises:
            SettingsError: one of them can't be made any more.
        """
        return [
            secret.derive(keys, self.id, generation)
            for generation in self.generations
            if generation.until is None or generation.until > now
        ]


def columns(wanted: Subscription) -> dict[str, Any]:
    """The columns that say who is told of what."""
    return {
        "name": wanted.name,
        "url": wanted.url,
        "types": list(wanted.types),
        "apps": sorted(wanted.apps),
        "senders": sorted(wanted.senders),
        "kinds": sorted(wanted.kinds),
    }
