"""One event, and the two shapes in which it is told (API §7.3)."""

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Casing = Literal["subscribed", "registered"]
"""How the fields of an HTTP push are spelt: as documented today, or as before 2020."""

REGISTERED_NAMES = {"userId": "UserId", "deptId": "DeptId", "timeStamp": "TimeStamp"}
"""Fields of contacts that are spelt another way in the old format (API §7.3)."""

_biz_ids = itertools.count(1_663_000_000_000)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        type: such as ``user_add_org``.
        born: Unix seconds of the sandbox's clock.
        fields: its own fields; they win over the common ones of the same name.
        app: the only app that is told; None: every app that wants to know and may.
        user: the person that it is about, whose scope it is then.
        departments: where it happened; None: it is of no place, and everybody's.
    """

    type: str
    born: float
    fields: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    biz_id: str = field(default_factory=lambda: str(next(_biz_ids)))
    app: str | None = None
    user: str = ""
    departments: frozenset[int] | None = None

    @property
    def born_ms(self) -> int:
        """When it happened, in milliseconds."""
        return int(self.born * 1_000)

    def pushed(self, corp_id: str, casing: Casing = "subscribed") -> dict[str, Any]:
        """The event as an HTTP push tells it, before it is encrypted."""
        if casing == "registered":
            return self._registered(corp_id)
        return {
            "EventType": self.type,
            "EventTime": self.born_ms,
            "CorpId": corp_id,
            "BizId": self.biz_id,
            "eventId": self.id,
            **self.fields,
        }

    def _registered(self, corp_id: str) -> dict[str, Any]:
        """The old format: other names, and no id."""
        renamed = {REGISTERED_NAMES.get(name, name): value for name, value in self.fields.items()}
        corporation = "corpId" if self.type.startswith("bpms_") else "CorpId"
        return {
            "EventType": self.type,
            corporation: corp_id,
            "TimeStamp": str(self.born_ms),
            **renamed,
        }
