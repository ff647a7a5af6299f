"""Approval instances and their way through steps and tasks, whichever generation of the API made them (API §4, §11.8)."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import Organisation
from dingrelay_sandbox.templates import DEFAULT_TEMPLATES, Template

Action = Literal["AND", "OR", "NONE"]
TaskStatus = Literal["RUNNING", "COMPLETED", "CANCELED"]
TaskResult = Literal["NONE", "AGREE", "REFUSE", "REDIRECTED"]
FlowStatus = Literal["RUNNING", "TERMINATED", "COMPLETED"]
FlowResult = Literal["", "agree", "refuse"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step's approvers and rule: all of them (AND), any of them (OR), or the only one (NONE)."""

    action: Action
    users: tuple[str, ...]


@dataclass(slots=True)
class Task:
    """One person's decision. Times are Unix seconds; `step` counts from 0."""

    id: int
    user: str
    step: int
    created_at: float
    status: TaskStatus = "RUNNING"
    result: TaskResult = "NONE"
    finished_at: float | None = None

    @property
    def activity(self) -> str:
        """DingTalk's id of the step."""
        return f"b39a_{self.step:04x}"

    def end(self, status: TaskStatus, result: TaskResult, at: float) -> None:
        """Nothing more is to be done."""
        self.status, self.result, self.finished_at = status, result, at


@dataclass(frozen=True, slots=True)
class Record:
    """Something that was done."""

    user: str
    at: float
    type: str
    result: str = "NONE"
    remark: str | None = None
    activity: str = ""


@dataclass(frozen=True, slots=True)
class FlowChange:
    """Something that happened on the way.

    Attributes:
        of: whether the instance or a task has changed.
        type: DingTalk's name of the change.
        at: Unix seconds.
        user: the task's owner, or the author of a comment; empty for an instance.
        task: which; None for an instance, or where it is a comment.
        remark: what was said.
    """

    of: Literal["instance", "task"]
    type: Literal["start", "finish", "terminate", "delete", "cancel", "comment"]
    at: float
    user: str = ""
    task: Task | None = None
    remark: str = ""


Form = tuple[tuple[str, str], ...]
"""Name and value of each control that was submitted, as it was submitted."""

FIRST_TASK_ID = 74_000_000_001


@dataclass(frozen=True, slots=True)
class Request:
    """The request that made an instance."""

    template: Template
    originator: str
    department: int
    form: Form
    steps: Sequence[Step] = ()
    cc: Sequence[str] = ()
    cc_position: str = "START"


@dataclass(slots=True, eq=False)
class Instance:
    """One approval instance, and its way through its steps; without any it waits until it is ended from outside.

    Attributes:
        created_at: Unix seconds of the sandbox's clock.
        monotonic: the same on a clock that never jumps.
        approvals: what numbers its tasks, and is notified of its changes.
        step: counts from 0.
    """

    id: str
    app_key: str
    call_id: int
    request: Request
    business_id: str
    created_at: float
    monotonic: float
    approvals: "Approvals"
    status: FlowStatus = "RUNNING"
    result: FlowResult = ""
    finished_at: float | None = None
    step: int = 0
    tasks: list[Task] = field(default_factory=list[Task])
    records: list[Record] = field(default_factory=list[Record])

    def start(self, at: float) -> None:
        """Begin with the first step."""
        self.records.append(Record(self.request.originator, at, "START_PROCESS_INSTANCE"))
        self.approvals.notify(self, FlowChange("instance", "start", at))
        self._copy("START", at)
        self._open(at)

    @property
    def open_tasks(self) -> list[Task]:
        """Tasks that wait for a decision."""
        return [task for task in self.tasks if task.status == "RUNNING"]

    def find(self, task_id: int) -> Task | None:
        """The task with an id."""
        return next((task for task in self.tasks if task.id == task_id), None)

    def task_of(self, user: str) -> Task:
        """The task that waits for a person's decision.

        Raises:
            LookupError: nothing does.
        """
        task = next((task for task in self.open_tasks if task.user == user), None)
        if task is None:
            raise LookupError(f"no open task of {user}")
        return task

    def decide(self, task: Task, *, agree: bool, at: float, remark: str = "") -> None:
        """One person agrees or refuses; the last to agree opens the next step or ends it all."""
        result: TaskResult = "AGREE" if agree else "REFUSE"
        task.end("COMPLETED", result, at)
        self.records.append(
            Record(task.user, at, "EXECUTE_TASK_NORMAL", result, remark, task.activity)
        )
        self._notify(task, "finish", at, remark)
        if not agree:
            self._end("COMPLETED", "refuse", at)
            return
        if self.request.steps[self.step].action == "AND" and self.open_tasks:
            return
        self._cancel(at)
        self.step += 1
        self._open(at)

    def redirect(self, task: Task, to_user: str, *, at: float, remark: str = "") -> None:
        """A person hands a task to another one."""
        task.end("COMPLETED", "REDIRECTED", at)
        self.records.append(Record(task.user, at, "REDIRECT_TASK", "NONE", remark, task.activity))
        self._notify(task, "finish", at, remark)
        self._ask(to_user, task.step, at)

    def comment(self, user: str, text: str, *, at: float) -> None:
        """A person says something."""
        self.records.append(Record(user, at, "ADD_REMARK", "NONE", text))
        self.approvals.notify(self, FlowChange("task", "comment", at, user, remark=text))

    def terminate(self, user: str, *, at: float, remark: str = "") -> None:
        """It is withdrawn."""
        self.records.append(Record(user, at, "TERMINATE_PROCESS_INSTANCE", "NONE", remark))
        self._end("TERMINATED", "", at)

    def advance(self, *, agree: bool, at: float, remark: str = "") -> None:
        """Everybody asked in this step decides so."""
        step = self.step
        for task in self.open_tasks:
            if self.step == step and task.status == "RUNNING":
                self.decide(task, agree=agree, at=at, remark=remark)
        if self.status == "RUNNING" and not self.open_tasks:
            self._end("COMPLETED", "agree" if agree else "refuse", at)

    def _open(self, at: float) -> None:
        if self.step < len(self.request.steps):
            for user in dict.fromkeys(self.request.steps[self.step].users):
                self._ask(user, self.step, at)
        elif self.request.steps:
            self._end("COMPLETED", "agree", at)

    def _ask(self, user: str, step: int, at: float) -> None:
        task = Task(next(self.approvals.task_ids), user, step, at)
        self.tasks.append(task)
        self._notify(task, "start", at)

    def _end(self, status: FlowStatus, result: FlowResult, at: float) -> None:
        self._cancel(at)
        self.status, self.result, self.finished_at = status, result, at
        ended = status == "COMPLETED"
        if ended:
            self._copy("FINISH", at)
        self.approvals.notify(self, FlowChange("instance", "finish" if ended else "terminate", at))

    def _cancel(self, at: float) -> None:
        for task in self.open_tasks:
            task.end("CANCELED", "NONE", at)
            self._notify(task, "cancel", at)

    def _notify(
        self, task: Task, kind: Literal["start", "finish", "cancel"], at: float, remark: str = ""
    ) -> None:
        self.approvals.notify(self, FlowChange("task", kind, at, task.user, task, remark))

    def _copy(self, moment: str, at: float) -> None:
        if self.request.cc and moment in self.request.cc_position:
            self.records.append(Record(self.request.originator, at, "PROCESS_CC", "NONE", ""))


class Approvals:
    """All instances and templates.

    Attributes:
        by_template: process code → its instances, oldest first.
        tell: what is done with each change of an instance.
    """

    def __init__(self) -> None:
        self.notify: Callable[[Instance, FlowChange], None] = lambda instance, change: None
        self.templates = {each.process_code: each for each in DEFAULT_TEMPLATES}
        self.instances: dict[str, Instance] = {}
        self.by_template: dict[str, list[Instance]] = {}
        self._equal: Counter[tuple[str, str, str]] = Counter()
        self.task_ids = count(FIRST_TASK_ID)

    def create(self, request: Request, call: Call) -> Instance:
        """Start an instance. Two equal calls make two: DingTalk has no key against it."""
        number = len(self.instances) + 1
        instance = Instance(
            id=str(uuid.uuid4()),
            app_key=call.caller.app_key,
            call_id=call.id,
            request=request,
            business_id=f"{int(call.at * 1000)}{number:06d}",
            created_at=call.at,
            monotonic=call.monotonic,
            approvals=self,
        )
        process_code = request.template.process_code
        self.instances[instance.id] = instance
        self.by_template.setdefault(process_code, []).append(instance)
        self._equal[process_code, request.originator, equal_form(request.form)] += 1
        instance.start(call.at)
        return instance

    def delete(self, instance_id: str, *, at: float) -> None:
        """Let an administrator delete an instance; the APIs know nothing of it any more.

        Raises:
            LookupError: there is no such instance.
        """
        instance = self.find(instance_id)
        del self.instances[instance_id]
        self.by_template[instance.request.template.process_code].remove(instance)
        self.notify(instance, FlowChange("instance", "delete", at))

    def find(self, instance_id: str) -> Instance:
        """The instance with an id.

        Raises:
            LookupError: there is none.
        """
        instance = self.instances.get(instance_id)
        if instance is None:
            raise LookupError(f"approval {instance_id} does not exist")
        return instance

    def of_task(self, task_id: int) -> Instance | None:
        """The instance that a task belongs to."""
        return next((each for each in self.instances.values() if each.find(task_id)), None)

    @property
    def duplicates(self) -> int:
        """Instances beyond the first of an equal template, originator and form."""
        return sum(count - 1 for count in self._equal.values())


def title_of(instance: Instance, organisation: Organisation) -> str:
    """Title in the client's lists."""
    person = organisation.people.get(instance.request.originator)
    name = organisation.fields(person)["name"] if person else instance.request.originator
    return f"{name}提交的{instance.request.template.name}"


def equal_form(form: Form) -> str:
    """A form as a text that is equal for equal values in any order."""
    return json.dumps(sorted(form), ensure_ascii=False)
