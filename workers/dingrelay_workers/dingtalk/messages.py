"""Work notifications: sending, what became of the delivery, and taking back (API §2)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_tasks.context import DeliveryReport, MessageCall
from dingrelay_tasks.outcomes import CallForgotten
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.errors import Permanent
from dingrelay_workers.dingtalk.lenient import Answer
from dingrelay_workers.dingtalk.request import Calls, Request, ask

_FINISHED = 2
"""`progress.status` of a delivery that is over."""

_BAD_PARAMETER = "400002"
"""DingTalk's code for a task that is unknown, or too old (API §2.4)."""


class WorkNotifications:
    """Work notifications of one app.

    Every method raises what `Calls.send` raises, and what `Answer` raises for an answer of another
    shape than documented.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def send_message(
        self, call: MessageCall, message: Mapping[str, Any], *, recipients: int
    ) -> tuple[int, str]:
        """Make a call; accepted is all that its answer says (API §2.1).

        Args:
            call: to users, to departments and all below, or to the whole organisation.
            message: DingTalk's ``msg`` object.
            recipients: how many people that makes.

        Returns:
            DingTalk's ids of the task and of the request.
        """
        body: dict[str, Any] = {"agent_id": agent(self._calls), "msg": message}
        if call.users:
            body["userid_list"] = ",".join(call.users)
        if call.departments:
            body["dept_id_list"] = ",".join(map(str, call.departments))
        if call.everyone:
            body["to_all_user"] = True
        request = Request(apis.MESSAGE_SEND, body=body, recipients=recipients)
        answer = await ask(self._calls, request)
        return answer.number("task_id"), answer.text("request_id", "")

    async def delivery(self, task_id: int) -> DeliveryReport:
        """The delivery of a call of at most 100 recipients in the last 24 hours (API §2.2, §2.3).

        Raises:
            CallForgotten: it is older.
        """
        try:
            return await self._delivery(task_id)
        except Permanent as error:
            if error.code == _BAD_PARAMETER:
                raise CallForgotten from None
            raise

    async def _delivery(self, task_id: int) -> DeliveryReport:
        body = {"agent_id": agent(self._calls), "task_id": task_id}
        progress = await ask(self._calls, Request(apis.MESSAGE_PROGRESS, body=body))
        if progress.part("progress").number("status") != _FINISHED:
            return DeliveryReport(finished=False)
        answer = await ask(self._calls, Request(apis.MESSAGE_RESULT, body=body))
        result = answer.part("send_result")
        return DeliveryReport(
            finished=True,
            invalid=result.texts("invalid_user_id_list"),
            forbidden=_forbidden(result),
            read=result.texts("read_user_id_list"),
            unread=result.texts("unread_user_id_list"),
            failed=result.texts("failed_user_id_list"),
        )

    async def withdraw_message(self, task_id: int) -> bool:
        """Take back what a call of the last 24 hours brought (API §2.4); False: it is refused."""
        body = {"agent_id": agent(self._calls), "msg_task_id": task_id}
        try:
            await self._calls.send(Request(apis.MESSAGE_RECALL, body=body))
        except Permanent as error:
            if error.code == _BAD_PARAMETER:
                return False
            raise
        return True


def agent(calls: Calls) -> int | str:
    """The app's agent id, as the number that DingTalk documents."""
    agent_id = calls.agent_id
    return int(agent_id) if agent_id.isdecimal() else agent_id


def _forbidden(result: Answer) -> list[dict[str, Any]]:
    """Recipients dropped because of a limit, with DingTalk's code if given."""
    explained = [
        {
            "userid": entry.text("userid", ""),
            "code": entry.text("code", ""),
            "count": entry.text("count", ""),
        }
        for entry in result.parts("forbidden_list")
    ]
    explained_users = {entry["userid"] for entry in explained}
    bare = [user for user in result.texts("forbidden_user_id_list") if user not in explained_users]
    return [*explained, *({"userid": user, "code": "", "count": ""} for user in bare)]
