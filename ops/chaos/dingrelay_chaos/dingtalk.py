"""The DingTalk of a run: the sandbox as a process, its people, and what they can be asked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dingrelay_chaos.process import Process, reserve, wait_until
from dingrelay_sandbox.admin import Row, SandboxAdmin

if TYPE_CHECKING:
    from dingrelay_chaos.schedule import Setting

START_SECONDS = 20
APP_KEY, APP_SECRET, AGENT_ID = "sandbox-key", "sandbox-secret-of-chaos", "1000001"

STAYING = tuple(f"u{number}" for number in range(1, 41))
"""People who are there all the time, where they are."""
MOVING = tuple(f"u{number}" for number in range(41, 61))
"""People that changes of the organisation move, remove and bring back."""
JOINING = tuple(f"n{number}" for number in range(1, 9))
"""People who are not there at first, and join in the course of a run."""
DEPARTMENTS = 8
SHIFTING = tuple(range(101, 106))
"""Departments that come, change and go; only people who move are ever in them."""
ADDRESSES = ("mobile", "email", "job_number")
"""Fields that name people beside the userid."""

TEMPLATE = "PROC-CHAOS"
OPTIONS = ("甲", "乙", "丙")
CONTROLS = (
    {"label": "事由", "type": "TextareaField", "required": True},
    {"label": "类型", "type": "DDSelectField", "options": OPTIONS},
    {"label": "标签", "type": "DDMultiSelectField", "options": OPTIONS},
    {"label": "天数", "type": "NumberField"},
    {"label": "开始日期", "type": "DDDateField"},
    {"label": "联系人", "type": "InnerContactField"},
    {
        "label": "明细",
        "type": "TableField",
        "columns": [{"label": "项目"}, {"label": "金额", "type": "MoneyField"}],
    },
    {"label": "图片", "type": "DDPhotoField"},
    {"label": "备注", "type": "TextareaField"},
)
"""A form with a control of every kind that comes back otherwise than it was sent (API §11.1)."""
APPROVERS = ("u2", "u3")
"""The approvers, one after the other."""
ROBOTS = ("robot-1", "robot-2", "robot-3", "robot-4")
"""Robots of groups. DingTalk takes 20 messages of each in a minute."""
POOL, POOLED = "pool", ("pooled-1", "pooled-2", "pooled-3")
"""A group, and the tokens of its robots."""
MADE_UP = "robot-made-up"
"""A robot that DingTalk does not know."""


def text_of(entry: Row) -> str:
    """The text of a message."""
    return str(entry["message"].get("text", {}).get("content", ""))


def holds(approval: Row, tag: str) -> bool:
    """Whether a form holds a value."""
    return any(value == tag for _, value in approval["form"])


class DingTalk(Process):
    """A sandbox with a clock and limits of its own."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        port = reserve()
        options = {
            "port": port,
            "users": len(STAYING) + len(MOVING),
            "departments": DEPARTMENTS,
            "app-key": APP_KEY,
            "app-secret": APP_SECRET,
            "agent-id": AGENT_ID,
            "latency": setting.latency,
            "calls": setting.calls,
            "window": setting.window,
        }
        command = [sys.executable, "-m", "dingrelay_sandbox"]
        command += [f"--{name}={value}" for name, value in options.items()]
        super().__init__("sandbox", command, folder)
        self.url = f"http://127.0.0.1:{port}"
        self.admin = SandboxAdmin(self.url)
        self._setting = setting

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.spawn()
        wait_until(self._answers, START_SECONDS, f"the sandbox does not answer; see {self.log}")
        self.admin.set_limits(recipients=self._setting.recipients)
        self.admin.set_clock(self._setting.sandbox_skew)
        self.admin.add_template(TEMPLATE, CONTROLS, approvers=APPROVERS)
        for robot in (*ROBOTS, *POOLED):
            self.admin.add_robot(robot)

    def _answers(self) -> bool:
        try:
            self.admin.health()
        except OSError:
            self.admin.close()
            return False
        return True

    def addresses(self) -> dict[str, dict[str, str]]:
        """Person → kind of address → the address, also of those who only join later."""
        joining = {
            user: {
                "mobile": f"139{number:08d}",
                "email": f"{user}@example.com",
                "job_number": f"N-{number}",
            }
            for number, user in enumerate(JOINING, start=1)
        }
        return joining | {
            person["userid"]: {kind: str(person[kind]) for kind in ADDRESSES if person.get(kind)}
            for person in self.admin.organisation()["users"]
        }

    def end(self) -> None:
        """End it."""
        self.admin.close()
        self.kill()
