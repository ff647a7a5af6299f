"""The routes of the admin API that only read."""

from collections.abc import Callable

from aiohttp import web

from dingrelay_sandbox.admin_answers import ROOT, Handler, answered
from dingrelay_sandbox.state_reports import Reports

MOST_ROWS = "100000"
MOST_CONTENTS = "10000"


def report_routes(reports: Reports) -> list[web.RouteDef]:
    """What really happened, by the name of its report."""
    routes: dict[str, Callable[[web.Request], object]] = {
        "approvals": lambda _: reports.approvals(),
        "audit": lambda _: reports.audit(),
        "calls": lambda request: reports.calls(
            since=float(request.query.get("since", "0")),
            api=request.query.get("api", ""),
            limit=int(request.query.get("limit", MOST_ROWS)),
        ),
        "dropped": lambda request: reports.dropped(
            limit=int(request.query.get("limit", MOST_ROWS))
        ),
        "health": lambda _: reports.health(),
        "inbox/{user}": lambda request: reports.inbox(request.match_info["user"]),
        "inboxes": lambda request: reports.inboxes(
            limit=int(request.query.get("limit", MOST_CONTENTS))
        ),
        "media": lambda _: reports.media(),
        "organisation": lambda _: reports.organisation(),
        "robots": lambda _: reports.robot_posts(),
    }
    return [web.get(f"{ROOT}/{name}", _reading(report)) for name, report in routes.items()]


def _reading(report: Callable[[web.Request], object]) -> Handler:
    async def read(request: web.Request) -> object:
        return report(request)

    return answered(read)
