"""Approval instances and the templates they are made of (API §4)."""

import json
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["RUNNING", "TERMINATED", "COMPLETED"]
Form = tuple[tuple[str, str], ...]
"""Name and value of each control."""

MOST_LISTED = 10_000
"""DingTalk lists no more instances than this."""


class Template(BaseModel):
    """An approval template. Without fields it takes any form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    process_code: str
    name: str = "审批"
    fields: tuple[str, ...] = ()


DEFAULT_TEMPLATES = (
    Template(
        process_code="PROC-LEAVE",
        name="请假",
        fields=("事由", "请假类型", "开始日期", "结束日期", "天数", "明细", "备注"),
    ),
    Template(
        process_code="PROC-EXPENSE",
        name="报销",
        fields=("事由", "金额", "明细", "日期", "备注"),
    ),
    Template(
        process_code="PROC-TRAVEL",
        name="出差",
        fields=("事由", "目的地", "开始日期", "结束日期", "天数", "明细", "备注"),
    ),
    Template(process_code="PROC-ANY", name="通用"),
)


@dataclass(slots=True)
class Instance:
    """One approval instance. Times are Unix seconds."""

    id: str
    app_key: str
    call_id: int
    template: Template
    originator: str
    department: int
    form: Form
    approvers: Sequence[str]
    cc: Sequence[str]
    business_id: str
    created_at: float
    monotonic: float
    """When it was created, on a clock that never jumps."""
    status: Status = "RUNNING"
    finished_at: float | None = None

    @property
    def title(self) -> str:
        """What the list in the client shows."""
        return f"{self.originator}提交的{self.template.name}"


class Approvals:
    """All instances, whichever dialect made them."""

    def __init__(self) -> None:
        self.templates: dict[str, Template] = {}
        self.instances: dict[str, Instance] = {}
        self._by_template: dict[str, list[Instance]] = {}
        self._equal: Counter[tuple[str, str, str]] = Counter()

    def create(
        self,
        template: Template,
        *,
        app_key: str,
        call_id: int,
        originator: str,
        department: int,
        form: Form,
        approvers: Sequence[str],
        cc: Sequence[str],
        at: float,
        monotonic: float,
    ) -> Instance:
        """Start an instance. Two equal calls make two: DingTalk has no key against it."""
        number = len(self.instances) + 1
        instance = Instance(
            id=str(uuid.uuid4()),
            app_key=app_key,
            call_id=call_id,
            template=template,
            originator=originator,
            department=department,
            form=form,
            approvers=approvers,
            cc=cc,
            business_id=f"{int(at * 1000)}{number:06d}",
            created_at=at,
            monotonic=monotonic,
        )
        self.instances[instance.id] = instance
        self._by_template.setdefault(template.process_code, []).append(instance)
        self._equal[template.process_code, originator, equal_form(form)] += 1
        return instance

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
            and (not users or instance.originator in users)
            and (not statuses or instance.status in statuses)
        )
        return list(islice(found, MOST_LISTED))


def equal_form(form: Form) -> str:
    """A form as a text that is equal for equal values in any order."""
    return json.dumps(sorted(form), ensure_ascii=False)


def form_components(instance: Instance) -> list[dict[str, Any]]:
    """The form as the new API tells it; the old one has no more."""
    return [
        {"id": f"Field-{number}", "name": name, "value": value, "componentType": "TextField"}
        for number, (name, value) in enumerate(instance.form, 1)
    ]
