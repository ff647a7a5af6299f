"""The outbox: jobs that are written in the transaction of the business, and enqueued once it is committed.

`send` writes a row for a session of SQLAlchemy, `dingrelay_producers.outbox.django.send` for Django; a `Relay`
enqueues the rows. Names are loaded when they are first used, so that Django needs no SQLAlchemy to write.
"""

from typing import TYPE_CHECKING

from dingrelay_tasks.lazy_names import lazy_names

if TYPE_CHECKING:
    from dingrelay_producers.outbox.relay import Relay
    from dingrelay_producers.outbox.tables import OutboxRow, metadata, send

__all__ = ["OutboxRow", "Relay", "metadata", "send"]

__getattr__ = lazy_names(
    __name__, {"relay": ("Relay",), "tables": ("OutboxRow", "metadata", "send")}
)
