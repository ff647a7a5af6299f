"""What is done to approvals after their creation: by people at DingTalk, and by our jobs."""

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos.operations.operation import accept
from dingrelay_chaos.people import STAYING
from dingrelay_chaos.requests import ActionRequest
from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError
from dingrelay_sandbox.admin import SandboxError
from dingrelay_sandbox.report_types import ApprovalReport

PersonVerb = Literal["agree", "refuse", "redirect", "comment", "terminate", "delete"]
JobVerb = Literal["agree", "refuse", "comment", "terminate", "look"]


@dataclass(frozen=True, slots=True)
class AtDingTalk:
    """Somebody does something to an approval in DingTalk's client."""

    verb: PersonVerb
    target: int
    """The step that asked for the approval."""
    other: str
    """Who gets a task that is handed on."""

    def run(self, system: System, step: int) -> None:
        """Do it, if there is such an approval by now and it takes it."""
        found = _instance(system, self.target)
        if found is None:
            return
        with suppress(SandboxError):
            if self.verb == "delete":
                system.deleted.add(found["id"])
                system.sandbox.delete_approval(found["id"])
                return
            user = _decider(found) if self.verb in {"agree", "refuse", "redirect"} else ""
            user = user or found["originator"]
            system.sandbox.act(found["id"], self.verb, user, to=self.other, remark=f"意见 {step}")


@dataclass(frozen=True, slots=True)
class Act:
    """A job of ours does something to an approval."""

    verb: JobVerb
    target: int
    stranger: bool
    """Whether it is asked for in the name of somebody who is asked nothing."""

    def run(self, system: System, step: int) -> None:
        """Enqueue it, if there is such an approval by now."""
        found = _instance(system, self.target)
        if found is None:
            return
        user = STAYING[-1] if self.stranger else _decider(found) or found["originator"]
        request = ActionRequest(step, system.now(), self.verb, found["id"], user, f"意见 {step}")
        approval = system.client.approval(found["id"])
        system.requests.actions.append(request)

        def act() -> str:
            match self.verb:
                case "agree":
                    return approval.agree(user, request.remark).id
                case "refuse":
                    return approval.refuse(user, request.remark).id
                case "comment":
                    return approval.comment(request.remark, user).id
                case "terminate":
                    return approval.terminate(request.remark).id
                case "look":
                    return approval.look().id

        # The table is read first for some of them, and the database may be away.
        with suppress(DingrelayError):
            accept(system, request, act)


def _instance(system: System, target: int) -> ApprovalReport | None:
    """An approval that a step asked for; of equal ones any."""
    tag = next((each.tag for each in system.requests.approvals if each.step == target), None)
    found = [
        each
        for each in system.sandbox.approvals()
        if any(value == tag for _, value in each["form"])
    ]
    return random.choice(found) if found else None


def _decider(instance: ApprovalReport) -> str:
    """Somebody who is asked to decide; empty if nobody is."""
    return next((task["user"] for task in instance["tasks"] if task["status"] == "RUNNING"), "")
