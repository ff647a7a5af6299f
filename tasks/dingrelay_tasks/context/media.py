"""Files as a body sees them."""

from collections.abc import Mapping
from typing import Protocol

from dingrelay_tasks.names import Json


class Media(Protocol):
    """Files that DingTalk keeps for the job's app."""

    async def upload(self, upload: str, *, content_type: str, query: Mapping[str, str]) -> Json:
        """DingTalk's answer to an upload.

        Args:
            upload: digest of the form with the file, which waits for this.
            content_type: of that form.
            query: parameters of the URL, without the token.

        Raises:
            Refused: it does not wait any more.
        """
        ...

    async def forget(self, upload: str) -> None:
        """Let go of an upload that is over: it waits in memory that others need."""
        ...
