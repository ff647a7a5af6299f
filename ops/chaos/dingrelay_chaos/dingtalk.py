"""The DingTalk of a run: the sandbox as a process."""

import os
import sys
import time
from pathlib import Path

from dingrelay_chaos import ports
from dingrelay_chaos.process import Process
from dingrelay_sandbox.admin import SandboxAdmin

START_SECONDS = 20
APP_KEY, APP_SECRET, AGENT_ID = "sandbox-key", "sandbox-secret-of-chaos", "1000001"

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
ROBOTS = ("robot-1", "robot-2", "robot-3", "robot-4")
"""Robots of groups. DingTalk takes 20 messages of each in a minute."""
MADE_UP = "robot-made-up"
"""A robot that DingTalk does not know."""
APPROVERS = ("u2", "u3")
"""Who is asked, one after the other."""


class DingTalk:
    """A sandbox with a clock of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        users: int,
        departments: int,
        skew: float,
        latency: str,
        calls: str,
        window: str,
        recipients: str,
    ) -> None:
        port = ports.reserve()
        self._recipients = recipients
        self._skew = skew
        options = {
            "port": port,
            "users": users,
            "departments": departments,
            "latency": latency,
            "calls": calls,
            "window": window,
            "app-key": APP_KEY,
            "app-secret": APP_SECRET,
            "agent-id": AGENT_ID,
        }
        command = [sys.executable, "-m", "dingrelay_sandbox"]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._process = Process("sandbox", command, folder / "sandbox.log")
        self.url = f"http://127.0.0.1:{port}"
        self.admin = SandboxAdmin(self.url)

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._process.spawn(os.environ)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.admin.health()
            except OSError:
                if time.monotonic() > deadline or not self._process.alive:
                    raise
                self.admin.close()
                time.sleep(0.05)
            else:
                break
        self.admin.set_limits(recipients=self._recipients)
        self.admin.set_clock(self._skew)
        self.admin.add_template(TEMPLATE, CONTROLS, approvers=APPROVERS)

    def end(self) -> None:
        """End it."""
        self.admin.close()
        self._process.kill()
