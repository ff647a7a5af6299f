"""Approval instances, whichever generation of the API made them (API §4)."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count, islice

from dingrelay_sandbox.approval_flow import Flow, FlowChange, Step
from dingrelay_sandbox.organisation import Organisation
from dingrelay_sandbox.templates import DEFAULT_TEMPLATES, Template

Form = tuple[tuple[str, str], ...]
"""Name and value of each control that was submitted, as it was submitted."""

MOST_LISTED = 10_000
"""DingTalk lists no more instances than this."""
FIRST_TASK_ID = 74_000_000_001


@dataclass(frozen=True, slots=True)
class Request:
    """What an instance was asked for with."""

    template: Template
    originator: str
    department: int
    form: Form
    steps: Sequence[Step] = ()
    cc: Sequence[str] = ()
    cc_position: str = "START"


@dataclass(frozen=True, slots=True)
class Instance:
    """One approval instance.

    Attributes:
        created_at: Unix seconds of the sandbox's clock.
        monotonic: the same on a clock that never jumps.
        flow: what has become of it.
    """

    id: str
    app_key: str
    call_id: int
    request: Request
    business_id: str
    created_at: float
    monotonic: float
    flow: Flow


def _ignore(instance: Instance, change: FlowChange) -> None:
    """Changes go nowhere."""


class Approvals:
    """All instances and templates.

    Attributes:
        tell: what is done with each change of an instance.
    """

    def __init__(self) -> None:
        self.notify: Callable[[Instance, FlowChange], None] = _ignore
        self.templates = {each.process_code: each for each in DEFAULT_TEMPLATES}
        self.instances: dict[str, Instance] = {}
        self._by_template: dict[str, list[Instance]] = {}
        self._equal: Counter[tuple[str, str, str]] = Counter()
        self._task_ids = count(FIRST_TASK_ID)

    def create(
        self, request: Request, *, app_key: str, call_id: int, at: float, monotonic: float
    ) -> Instance:
        """Start an instance. Two equal calls make two: DingTalk has no key against it."""
        number = len(self.instances) + 1
        instance = Instance(
            id=str(uuid.uuid4()),
            app_key=app_key,
            call_id=call_id,
            request=request,
            business_id=f"{int(at * 1000)}{number:06d}",
            created_at=at,
            monotonic=monotonic,
            flow=Flow(
                originator=request.originator,
                steps=request.steps,
                cc=request.cc,
                cc_position=request.cc_position,
                new_task_id=lambda: next(self._task_ids),
                notify=lambda change: self.notify(instance, change),
            ),
        )
        process_code = request.template.process_code
        self.instances[instance.id] = instance
        self._by_template.setdefault(process_code, []).append(instance)
        self._equal[process_code, request.originator, equal_form(request.form)] += 1
        instance.flow.start(at)
        return instance

    def delete(self, instance_id: str, *, at: float) -> None:
        """Let an administrator delete an instance; the APIs know nothing of it any more.

        Raises:
            LookupError: there is no such instance.
        """
        instance = self.find(instance_id)
        del self.instances[instance_id]
        self._by_template[instance.request.template.process_code].remove(instance)
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
        return next((each for each in self.instances.values() if each.flow.find(task_id)), None)

    @property
    def duplicates(self) -> int:
        """Instances beyond the first of an equal template, originator and form."""
        return sum(count - 1 for count in self._equal.values())

    def listed(
        self,
        process_code: str,
        *,
        start: float,
        end: float | None,
        visible_until: float,
        users: Collection[str] = (),
        statuses: Collection[str] = (),
    ) -> list[Instance]:
        """The instances of a template that were created in a time, oldest first.

        Args:
            process_code: of the template.
            start: Unix seconds.
            end: Unix seconds, not included; None: no end.
            visible_until: how young an instance may be, as a moment of the clock that never jumps.
            users: the originators; empty for all.
            statuses: empty for all.
        """
        found = (
            instance
            for instance in self._by_template.get(process_code, ())
            if start <= instance.created_at
            and (end is None or instance.created_at < end)
            and instance.monotonic <= visible_until
            and (not users or instance.request.originator in users)
            and (not statuses or instance.flow.status in statuses)
        )
        return list(islice(found, MOST_LISTED))


def title_of(instance: Instance, organisation: Organisation) -> str:
    """What the lists in the client show."""
    person = organisation.people.get(instance.request.originator)
    name = organisation.fields(person)["name"] if person else instance.request.originator
    return f"{name}提交的{instance.request.template.name}"


def equal_form(form: Form) -> str:
    """A form as a text that is equal for equal values in any order."""
    return json.dumps(sorted(form), ensure_ascii=False)
