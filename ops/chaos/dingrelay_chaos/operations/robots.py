"""Alerts to groups: programs post to a robot's webhook through the drop-in door."""

from dataclasses import dataclass

from dingrelay_chaos.dingtalk import MADE_UP
from dingrelay_chaos.requests import AlertRequest
from dingrelay_chaos.system import System

UNKNOWN = 300_005
LOST = 15
"""The answer to a call that may have been made; it counts as none."""


@dataclass(frozen=True, slots=True)
class Alert:
    """The same alert, posted a few times, each until it is answered."""

    robot: str
    text: str
    times: int = 1

    def run(self, system: System, step: int) -> None:
        """Post it."""
        request = AlertRequest(step, system.now(), self.robot, self.text)
        system.requests.alerts.append(request)
        for _ in range(self.times):
            request.asked += 1
            code = system.gateway.alert(self.robot, self.text)
            request.until = system.now()
            request.answered += code == 0
            if code not in ({None, LOST, UNKNOWN if self.robot == MADE_UP else 0}):
                raise AssertionError(f"an alert to {self.robot} was refused: {code}")
