"""What becomes of an approval: steps, tasks, and the record of who did what (API §4.2, §11.8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["AND", "OR", "NONE"]
TaskStatus = Literal["RUNNING", "COMPLETED", "CANCELED"]
TaskResult = Literal["NONE", "AGREE", "REFUSE", "REDIRECTED"]
FlowStatus = Literal["RUNNING", "TERMINATED", "COMPLETED"]
FlowResult = Literal["", "agree", "refuse"]


@dataclass(frozen=True, slots=True)
class Step:
    """Who must consent: all of them (AND), any of them (OR), or the only one (NONE)."""

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


def _ignore(change: FlowChange) -> None:
    """Changes go nowhere."""


@dataclass(slots=True)
class Flow:
    """The way of one instance through its steps.

    Attributes:
        originator: who started it.
        steps: in their order; without any it waits until it is ended from outside.
        cc: who gets a copy.
        cc_position: when the copies go out.
        new_task_id: gives numbers that no other task has.
        tell: what is done with each change.
    """

    originator: str
    steps: Sequence[Step]
    cc: Sequence[str]
    cc_position: str
    new_task_id: Callable[[], int]
    notify: Callable[[FlowChange], None] = _ignore
    status: FlowStatus = "RUNNING"
    result: FlowResult = ""
    finished_at: float | None = None
    step: int = 0
    tasks: list[Task] = field(default_factory=list[Task])
    records: list[Record] = field(default_factory=list[Record])

    def start(self, at: float) -> None:
        """Begin with the first step."""
        self._note(self.originator, at, "START_PROCESS_INSTANCE")
        self.notify(FlowChange("instance", "start", at))
        self._copy("START", at)
        self._open(at)

    @property
    def open_tasks(self) -> list[Task]:
        """What waits for a decision."""
        return [task for task in self.tasks if task.status == "RUNNING"]

    def find(self, task_id: int) -> Task | None:
        """The task with an id."""
        return next((task for task in self.tasks if task.id == task_id), None)

    def task_of(self, user: str) -> Task:
        """What waits for a person's decision.

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
        self._note(task.user, at, "EXECUTE_TASK_NORMAL", result, remark, task.activity)
        self._notify(task, "finish", at, remark)
        if not agree:
            self._end("COMPLETED", "refuse", at)
            return
        if self.steps[self.step].action == "AND" and self.open_tasks:
            return
        self._cancel(at)
        self.step += 1
        self._open(at)

    def redirect(self, task: Task, to_user: str, *, at: float, remark: str = "") -> None:
        """A person hands a task to another one."""
        task.end("COMPLETED", "REDIRECTED", at)
        self._note(task.user, at, "REDIRECT_TASK", "NONE", remark, task.activity)
        self._notify(task, "finish", at, remark)
        self._ask(to_user, task.step, at)

    def comment(self, user: str, text: str, *, at: float) -> None:
        """A person says something."""
        self._note(user, at, "ADD_REMARK", "NONE", text)
        self.notify(FlowChange("task", "comment", at, user, remark=text))

    def terminate(self, user: str, *, at: float, remark: str = "") -> None:
        """It is withdrawn."""
        self._note(user, at, "TERMINATE_PROCESS_INSTANCE", "NONE", remark)
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
        if self.step < len(self.steps):
            for user in dict.fromkeys(self.steps[self.step].users):
                self._ask(user, self.step, at)
        elif self.steps:
            self._end("COMPLETED", "agree", at)

    def _ask(self, user: str, step: int, at: float) -> None:
        task = Task(self.new_task_id(), user, step, at)
        self.tasks.append(task)
        self._notify(task, "start", at)

    def _end(self, status: FlowStatus, result: FlowResult, at: float) -> None:
        self._cancel(at)
        self.status, self.result, self.finished_at = status, result, at
        ended = status == "COMPLETED"
        if ended:
            self._copy("FINISH", at)
        self.notify(FlowChange("instance", "finish" if ended else "terminate", at))

    def _cancel(self, at: float) -> None:
        for task in self.open_tasks:
            task.end("CANCELED", "NONE", at)
            self._notify(task, "cancel", at)

    def _notify(
        self, task: Task, kind: Literal["start", "finish", "cancel"], at: float, remark: str = ""
    ) -> None:
        self.notify(FlowChange("task", kind, at, task.user, task, remark))

    def _copy(self, moment: str, at: float) -> None:
        if self.cc and moment in self.cc_position:
            self._note(self.originator, at, "PROCESS_CC", "NONE", "")

    def _note(
        self,
        user: str,
        at: float,
        kind: str,
        result: str = "NONE",
        remark: str | None = None,
        activity: str = "",
    ) -> None:
        self.records.append(Record(user, at, kind, result, remark, activity))
