"""Events that DingTalk could not push, as a job's body sees them."""

from dataclasses import dataclass
from typing import Protocol

from dingrelay_tasks.names import Json


@dataclass(frozen=True, slots=True)
class MissedPage:
    """Some events that DingTalk could not push.

    Attributes:
        entries: as DingTalk returns them. It returns each only once.
        more: whether there are more.
        refused: DingTalk's code, if it lets the app have none.
        lost: DingTalk's answer did not arrive, and the events that it held are forgotten there.
    """

    entries: list[Json]
    more: bool
    refused: str = ""
    lost: bool = False


class Events(Protocol):
    """The events of the job's app."""

    async def missed(self) -> MissedPage:
        """The oldest events that DingTalk could not push; it forgets them with that."""
        ...
