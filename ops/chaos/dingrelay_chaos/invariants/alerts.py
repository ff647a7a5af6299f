"""2, of alerts: each that was answered is in its group, as often as it was asked for."""

from collections import Counter
from collections.abc import Iterator

from dingrelay_chaos.dingtalk import MADE_UP
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.faults.gateway import GatewayEnds
from dingrelay_chaos.requests import AlertRequest
from dingrelay_chaos.system import System


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Alerts that are missing, or there too often."""
    posts = Counter(
        (post["robot"], post["message"]["text"]["content"]) for post in system.sandbox.robot_posts()
    )
    for request in evidence.requests.alerts:
        found = posts[request.robot, request.text]
        if request.robot == MADE_UP or any(
            lost.since <= request.until and lost.until >= request.at for lost in evidence.lost
        ):
            continue
        least = request.answered
        if _gateway_ended(evidence, request):
            # It may have ended between an answer and the note of that: then the next equal alert is the same one.
            least = min(least, 1)
        if not least <= found <= request.asked:
            said = f"asked for {request.asked} times, answered {request.answered} times"
            yield Violation(
                2, f"{request.text!r} is {found} times in its group: {said}", request.text
            )


def _gateway_ended(evidence: Evidence, request: AlertRequest) -> bool:
    return any(
        isinstance(fault.what, GatewayEnds) and request.at <= fault.began <= request.until
        for fault in evidence.journal.faults
    )
