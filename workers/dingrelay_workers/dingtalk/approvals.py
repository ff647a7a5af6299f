"""Approval instances in both generations of the API: creating, and looking up (API §4)."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.beijing import BEIJING
from dingrelay_tasks.context import ApprovalChange, ApprovalState, ApprovalTask, TaskState
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.dingtalk import apis, lenient
from dingrelay_workers.dingtalk.approval_form import Comparison, Control, Form, compare
from dingrelay_workers.dingtalk.errors import NotFound
from dingrelay_workers.dingtalk.lenient import Answer, AnswerPages
from dingrelay_workers.dingtalk.messages import agent
from dingrelay_workers.dingtalk.request import Calls, Request, ask

_ENDED: Mapping[str, ApprovalState] = {"agree": "approved", "refuse": "refused"}
_RESULTS: Mapping[str, TaskState] = {
    "AGREE": "agreed",
    "REFUSE": "refused",
    "REDIRECTED": "redirected",
    "REDIRECT": "redirected",
}


def state_of(status: str, result: str) -> ApprovalState | None:
    """The state behind DingTalk's two fields; None where they tell none.

    Args:
        status: ``NEW``, ``RUNNING``, ``TERMINATED``, ``CANCELED`` or ``COMPLETED``.
        result: ``agree`` or ``refuse``, of one that is completed.
    """
    match status.upper():
        case "NEW" | "RUNNING":
            return "running"
        case "TERMINATED" | "CANCELED" | "CANCELLED":
            return "terminated"
        case "COMPLETED":
            return _ENDED.get(result.lower())
        case _:
            return None


def tasks_of(entries: Sequence[Mapping[str, Any]]) -> list[ApprovalTask]:
    """The tasks in an answer of either generation; one without a number or a person is left out."""
    tasks: list[ApprovalTask] = []
    for entry in entries:
        number = _text(entry, "taskId", "taskid")
        user = _text(entry, "userId", "userid")
        if not number or not user:
            continue
        status = _text(entry, "status", "task_status").upper()
        result = _text(entry, "result", "task_result").upper()
        tasks.append(
            ApprovalTask(
                id=number,
                user=user,
                state=_task_state(status, result),
                since=moment(_text(entry, "createTime", "create_time")),
                ended=moment(_text(entry, "finishTime", "finish_time")),
            )
        )
    return tasks


def moment(text: str) -> datetime | None:
    """A time as DingTalk spells it; None for none, and for one in a form of its own.

    The new generation writes ``2022-08-31T11:52Z``, the old one ``2020-12-21 15:30:26`` in Beijing's
    time.
    """
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=BEIJING)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _task_state(status: str, result: str) -> TaskState:
    if status in {"NEW", "RUNNING", "PAUSED"}:
        return "running"
    if status in {"CANCELED", "CANCELLED"}:
        return "cancelled"
    return _RESULTS.get(result, "cancelled")


def _text(entry: Mapping[str, Any], *names: str) -> str:
    for name in names:
        try:
            if entry.get(name) is not None:
                return lenient.text(entry[name])
        except lenient.Unreadable:
            continue
    return ""


PAGE_SIZE = 20
"""Instance ids that one page of a list can hold."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An approval instance that may be one whose making was left unanswered.

    Attributes:
        created: when it was made, in DingTalk's spelling of its generation; sorts as text.
        business_id: DingTalk's number of it, which begins with the time of its creation.
        link: where a person can look at it.
    """

    id: str
    link: str
    title: str = ""
    created: str = ""
    business_id: str = ""


class Approvals(ABC):
    """Approval instances of one app.

    Every method raises what `Calls.send` raises, and what `Answer` raises for an answer of another
    shape than documented.
    """

    names: ClassVar[Mapping[str, str]]
    """Names of an instance's fields in this generation of the API (API §4.2, §4.3)."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @abstractmethod
    def _creation(self, new: ApprovalCreate) -> Request:
        """The call that creates an instance."""

    @abstractmethod
    def _look_up(self, instance_id: str) -> Request:
        """The call that reads one instance."""

    @abstractmethod
    def _list(
        self, process_code: str, originator: str, since: int, until: int | None, cursor: int | str
    ) -> Request:
        """The call that lists instances; see `page`."""

    async def create(self, new: ApprovalCreate) -> str:
        """Create an instance; its id.

        Raises:
            Refused: this generation has no field for what is asked.
        """
        return (await ask(self._calls, self._creation(new))).text(self.names["created_id"])

    async def look(self, instance_id: str) -> ApprovalChange:
        """How one instance stands."""
        result, names = await self._instance(instance_id), self.names
        tasks, business_id = result.entries("tasks"), result.text(names["business_id"], "")
        return ApprovalChange(
            instance=instance_id,
            source="look",
            state=state_of(result.text("status"), result.text("result", "")),
            tasks=tasks_of(tasks),
            originator=result.text(names["originator"], ""),
            title=result.text("title", ""),
            business_id=business_id,
            link=_link(instance_id, business_id, tasks, names["url"]),
            created=moment(result.text(names["created"], "")),
            finished=moment(result.text(names["finished"], "")),
        )

    async def _instance(self, instance_id: str) -> Answer:
        return (await ask(self._calls, self._look_up(instance_id))).part(self.names["read"])

    async def page(
        self, process_code: str, originator: str, since: int, until: int | None, cursor: str
    ) -> tuple[list[str], str]:
        """A page of instance ids and the cursor of the next, empty on the last. Times in ms."""
        place = int(cursor) if cursor.isdecimal() else cursor
        request = self._list(process_code, originator, since, until, place)
        result = (await ask(self._calls, request)).part("result")
        return result.texts("list"), result.text(self.names["cursor"], "")

    async def listed(
        self, process_code: str, originator: str, since: int, until: int | None = None
    ) -> list[str]:
        """The ids of the template's instances by this originator, over all pages.

        Args:
            process_code: the template.
            originator: a userid.
            since: when the oldest was made at the earliest, in ms of DingTalk's clock; at most
                120 days ago.
            until: when the newest was made at the latest; None is now.
        """
        ids: dict[str, None] = {}
        cursor = "0"
        paging = AnswerPages(cursor)
        while True:
            page, cursor = await self.page(process_code, originator, since, until, cursor)
            ids |= dict.fromkeys(page)
            if not cursor:
                return list(ids)
            # Half a list would let an instance be made twice.
            paging.took(page, cursor)

    async def matches(
        self, instance_ids: Collection[str], *, originator: str, form: Form
    ) -> tuple[list[Instance], list[Instance]]:
        """The instances that surely hold the form, and those that may, each list by creation time.

        Args:
            instance_ids: each is read, which is a call.
            originator: a userid.
            form: as it was given to `create`.
        """
        names = self.names
        equal: list[Instance] = []
        unclear: list[Instance] = []
        for instance_id in instance_ids:
            try:
                result = await self._instance(instance_id)
            except NotFound:
                # It was listed: it can't be read yet, or has been deleted since.
                unclear.append(Instance(instance_id, _link(instance_id)))
                continue
            # The list is of the originator's: an id in other letters is no other person's.
            if result.text(names["originator"]).casefold() != originator.casefold():
                continue
            comparison = compare(form, map(Control.read, result.entries(names["form"])))
            if comparison is Comparison.DIFFERENT:
                continue
            business_id = result.text(names["business_id"], "")
            (equal if comparison is Comparison.EQUAL else unclear).append(
                Instance(
                    instance_id,
                    _link(instance_id, business_id, result.entries("tasks"), names["url"]),
                    title=result.text("title", ""),
                    created=result.text(names["created"], ""),
                    business_id=business_id,
                )
            )
        for instances in (equal, unclear):
            instances.sort(key=lambda instance: (instance.created, instance.business_id))
        return equal, unclear


class ApprovalsV1(Approvals):
    """The new generation (API §4.1, §4.2)."""

    names: ClassVar[Mapping[str, str]] = {
        "originator": "originatorUserId",
        "created": "createTime",
        "finished": "finishTime",
        "business_id": "businessId",
        "form": "formComponentValues",
        "url": "pcUrl",
        "created_id": "instanceId",
        "read": "result",
        "cursor": "nextToken",
    }

    def _creation(self, new: ApprovalCreate) -> Request:
        body: dict[str, Any] = {
            "originatorUserId": new.originator,
            "processCode": new.process_code,
            "deptId": new.department,
            "microappAgentId": agent(self._calls),
            "approvers": [
                {"actionType": step.action, "userIds": step.users} for step in new.approvers
            ],
            "targetSelectActioners": [
                {"actionerKey": actioner.key, "actionerUserIds": actioner.users}
                for actioner in new.target_actioners
            ],
            "ccList": new.cc,
            "ccPosition": new.cc_position,
            "formComponentValues": _values(new.form_values),
        }
        return Request(apis.APPROVAL_CREATE, body=_filled(body))

    def _look_up(self, instance_id: str) -> Request:
        return Request(apis.APPROVAL_READ, query={"processInstanceId": instance_id})

    def _list(
        self, process_code: str, originator: str, since: int, until: int | None, cursor: int | str
    ) -> Request:
        body = {
            "processCode": process_code,
            "userIds": [originator],
            "startTime": since,
            "endTime": until,
            "nextToken": cursor,
            "maxResults": PAGE_SIZE,
        }
        return Request(apis.APPROVAL_LIST, body=_filled(body))


class ApprovalsTopapi(Approvals):
    """The old generation (API §4.3). It has no field for people that the originator chooses."""

    names: ClassVar[Mapping[str, str]] = {
        "originator": "originator_userid",
        "created": "create_time",
        "finished": "finish_time",
        "business_id": "business_id",
        "form": "form_component_values",
        "url": "url",
        "created_id": "process_instance_id",
        "read": "process_instance",
        "cursor": "next_cursor",
    }

    def _creation(self, new: ApprovalCreate) -> Request:
        if new.target_actioners:
            raise Refused(
                "target_actioners",
                "the old approval API has no field for people that the originator chooses",
                "set DINGTALK_APPROVAL_API=v1.0",
            )
        body: dict[str, Any] = {
            "agent_id": agent(self._calls),
            "process_code": new.process_code,
            "originator_user_id": new.originator,
            "dept_id": new.department,
            "approvers_v2": [
                {"task_action_type": step.action, "user_ids": step.users} for step in new.approvers
            ],
            "cc_list": ",".join(new.cc),
            "cc_position": new.cc_position,
            "form_component_values": _values(new.form_values),
        }
        return Request(apis.APPROVAL_CREATE_TOPAPI, body=_filled(body))

    def _look_up(self, instance_id: str) -> Request:
        return Request(apis.APPROVAL_READ_TOPAPI, body={"process_instance_id": instance_id})

    def _list(
        self, process_code: str, originator: str, since: int, until: int | None, cursor: int | str
    ) -> Request:
        body = {
            "process_code": process_code,
            "userid_list": originator,
            "start_time": since,
            "end_time": until,
            "cursor": cursor,
            "size": PAGE_SIZE,
        }
        return Request(apis.APPROVAL_LIST_TOPAPI, body=_filled(body))


def _values(form: Form) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in form]


def _filled(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body without the fields that hold nothing."""
    return {name: value for name, value in body.items() if value not in (None, "", [])}


def _link(
    instance_id: str,
    business_id: str = "",
    tasks: Sequence[Mapping[str, Any]] = (),
    name: str = "",
) -> str:
    """Link to an instance for people: the first URL that its tasks have under a name, if any."""
    number = f"&businessId={business_id}" if business_id else ""
    url = next((str(task[name]) for task in tasks if task.get(name)), "")
    url = url or f"aflow.dingtalk.com?procInsId={instance_id}{number}"
    return url if url.startswith("http") else f"https://{url}"
