"""Events that DingTalk could not push over HTTP (API §7.1, §11.7)."""

from collections.abc import Callable
from typing import Any, cast

from structlog.stdlib import get_logger

from dingrelay_tasks.context import MissedPage
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import MISSED_EVENTS
from dingrelay_workers.dingtalk.errors import Ambiguous, NotFound, Permanent, Permission
from dingrelay_workers.dingtalk.request import Calls, Request

log = get_logger("dingrelay.events")


async def read(calls: Calls, count: Callable[[int], None] = lambda _: None) -> MissedPage:
    """The oldest events that could not be pushed.

    An app that may not have them, or whose callback was made in the console only, has none.

    Args:
        calls: makes the call.
        count: called with the number of events on the page.
    """
    try:
        answer = await calls.send(Request(MISSED_EVENTS))
    except (NotFound, Permanent, Permission) as error:
        log.warning("missed_events_refused", app=calls.app, code=error.code)
        return MissedPage([], more=False, refused=error.code)
    except Ambiguous as error:
        log.error("missed_events_lost", app=calls.app, code=error.code)  # noqa: TRY400
        return MissedPage([], more=True, lost=True)
    entries = [
        cast("dict[str, Any]", entry)
        for entry in lenient.items(answer.get("failed_list"))
        if isinstance(entry, dict)
    ]
    count(len(entries))
    return MissedPage(entries, more=bool(entries) and _is_more(answer.get("has_more")))


def _is_more(value: Any) -> bool:
    """Whether there are more: what can't be read is no error, since the page is gone by then."""
    try:
        return lenient.boolean(value)
    except lenient.Unreadable:
        return value is not None
