"""Work notifications (API §2.1 to §2.5)."""

import json
from typing import Any

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.apis.message_shape import check_message
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.inbox import DELIVERED
from dingrelay_sandbox.sends import Send
from dingrelay_sandbox.state import SandboxState

MOST_USERS = 100
MOST_DEPARTMENTS = 20
MOST_FOR_RESULT = 100
DAY_SECONDS = 86_400
STATUS_BAR_SECONDS = 7 * DAY_SECONDS
_FLOW_CONTROLLED = frozenset({"143103", "143105", "143106", "41029"})


def send(state: SandboxState, call: Call) -> Answer:
    """``asyncsend_v2``: accepted for all, delivered as the silent limits allow."""
    parameters = call.parameters
    _check_agent(call, parameters)
    message = parameters.decoded("msg")
    check_message(message)
    users = parameters.separated("userid_list")
    departments = parameters.separated_wholes("dept_id_list")
    everyone = parameters.flag_or("to_all_user", default=False)
    if len(users) > MOST_USERS:
        raise OapiRefusal(400_002, f"userid_list最多{MOST_USERS}个")
    if len(departments) > MOST_DEPARTMENTS:
        raise OapiRefusal(400_002, f"dept_id_list最多{MOST_DEPARTMENTS}个")
    if not (everyone or users or departments):
        raise parameters.missing("userid_list,dept_id_list,to_all_user")
    reached = _recipients(state, call, users, departments, everyone=everyone)
    call.recipients = len(reached)
    scope = state.scopes.reached_by(call.caller)

    def reachable(userid: str) -> str:
        if userid not in state.organisation.people:
            return "unknown_user"
        return DELIVERED if scope.user(userid) else "scope"

    sent = state.sends.deliver(
        "work",
        call.caller.app_key,
        json.dumps(message, ensure_ascii=False, sort_keys=True),
        reached,
        reachable=reachable,
        call_id=call.id,
        at=call.at,
    )
    sent.invalid_departments = [each for each in departments if not scope.department(each)]
    return oapi_ok(call.request_id, task_id=sent.task_id)


def progress(state: SandboxState, call: Call) -> Answer:
    """``getsendprogress``: the sandbox delivers at once."""
    _find(state, call, "task_id", DAY_SECONDS)
    return oapi_ok(call.request_id, progress={"progress_in_percent": 100, "status": 2})


def result(state: SandboxState, call: Call) -> Answer:
    """``getsendresult``: who got it, and why the others did not."""
    sent = _find(state, call, "task_id", DAY_SECONDS)
    if sent.end - sent.first > MOST_FOR_RESULT:
        raise OapiRefusal(41_052, "发送人数过多或者发送进度未完成，暂时不返回结果")
    entries = [state.sends.inboxes.entry(index) for index in range(sent.first, sent.end)]
    thresholds = {"143105": state.limits.user_day, "143106": 1}
    stopped = [entry for entry in entries if entry.reason in _FLOW_CONTROLLED]
    content: dict[str, Any] = {
        "invalid_user_id_list": [
            entry.user for entry in entries if entry.reason in {"unknown_user", "scope"}
        ],
        "forbidden_user_id_list": [entry.user for entry in stopped],
        "failed_user_id_list": [],
        "read_user_id_list": [],
        "unread_user_id_list": [entry.user for entry in entries if not entry.reason],
        "invalid_dept_id_list": sent.invalid_departments,
        "forbidden_list": [
            {
                "code": entry.reason,
                "count": thresholds.get(entry.reason, state.limits.recipients_per_call),
                "userid": entry.user,
            }
            for entry in stopped
        ],
    }
    return oapi_ok(call.request_id, send_result=content)


def recall(state: SandboxState, call: Call) -> Answer:
    """``recall``: within 24 hours."""
    _find(state, call, "msg_task_id", DAY_SECONDS).recalled = True
    return oapi_ok(call.request_id)


def status_bar(state: SandboxState, call: Call) -> Answer:
    """``status_bar/update``: of `oa` messages, within 7 days."""
    sent = _find(state, call, "task_id", STATUS_BAR_SECONDS)
    message = json.loads(state.sends.contents[sent.content].message)
    if message["msgtype"] != "oa":
        raise OapiRefusal(400_002, "仅支持OA消息")
    parameters = call.parameters
    sent.status_bar = {
        "status_value": parameters.text("status_value"),
        "status_bg": parameters.text_or("status_bg", ""),
    }
    return oapi_ok(call.request_id)


def _check_agent(call: Call, parameters: Parameters) -> None:
    if parameters.text("agent_id") != call.caller.agent_id:
        raise OapiRefusal(40_056, "不合法的agentid")


def _recipients(
    state: SandboxState, call: Call, users: list[str], departments: list[int], *, everyone: bool
) -> list[str]:
    """Everybody who is meant, each once; a department stands for all below it, too."""
    organisation = state.organisation
    scope = state.scopes.reached_by(call.caller)
    if everyone:
        if not state.sends.everyone_left(call.caller.app_key, call.at):
            raise OapiRefusal(41_045, "全员推送每天最多3次")
        return [userid for userid in organisation.people if scope.user(userid)]
    return list(dict.fromkeys([*users, *organisation.reach(departments)]))


def _find(state: SandboxState, call: Call, name: str, within_seconds: float) -> Send:
    """The caller's own send that a call is about."""
    parameters = call.parameters
    _check_agent(call, parameters)
    sent = state.sends.find(parameters.whole(name))
    if sent is None or sent.app_key != call.caller.app_key or sent.at < call.at - within_seconds:
        raise OapiRefusal(400_002, f"参数错误 {name}")
    return sent
