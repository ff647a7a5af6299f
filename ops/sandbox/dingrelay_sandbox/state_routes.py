"""The routes of the admin API that only read."""

from collections.abc import Callable

from aiohttp import web

from dingrelay_sandbox.admin_answers import ROOT, Handler, answered
from dingrelay_sandbox.state_reports import Truth

MOST_ROWS = "100000"
MOST_CONTENTS = "10000"


def truth_routes(truth: Truth) -> list[web.RouteDef]:
    """What really happened, by the name of its report."""
    reports: dict[str, Callable[[web.Request], object]] = {
        "approvals": lambda _: truth.approvals(),
        "audit": lambda _: truth.audit(),
        "calls": lambda request: truth.calls(
            since=float(request.query.get("since", "0")),
            api=request.query.get("api", ""),
            limit=int(request.query.get("limit", MOST_ROWS)),
        ),
        "dropped": lambda request: truth.dropped(limit=int(request.query.get("limit", MOST_ROWS))),
        "health": lambda _: truth.health(),
        "inbox/{user}": lambda request: truth.inbox(request.match_info["user"]),
        "inboxes": lambda request: truth.inboxes(
            limit=int(request.query.get("limit", MOST_CONTENTS))
        ),
        "media": lambda _: truth.media(),
        "organisation": lambda _: truth.organisation(),
        "robots": lambda _: truth.robot_posts(),
    }
    return [web.get(f"{ROOT}/{name}", _reading(report)) for name, report in reports.items()]


def _reading(report: Callable[[web.Request], object]) -> Handler:
    async def read(request: web.Request) -> object:
        return report(request)

    return answered(read)
