"""What can be done to an approval after it was created, in the first generation (API §4.3).

Everything is in an object ``request``. There is no redirection here.
"""

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.apis.approval_request import (
    LONGEST_REMARK,
    ended_or_too_young,
    open_task,
)
from dingrelay_sandbox.apis.approval_tasks import RESULTS
from dingrelay_sandbox.apis.approvals_topapi import find_instance
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import SandboxState

WRONG_STATE = 820_005
NOT_REVOCABLE = 820_008


def execute(state: SandboxState, call: Call) -> Answer:
    """``/topapi/process/instance/execute``: agree or refuse."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    user, result = request.text("actioner_userid"), request.text("result")
    if result not in RESULTS:
        raise request.invalid("result")
    remark = _short(request, "remark")
    task = instance.flow.find(request.whole("task_id"))
    if task is None:
        raise request.invalid("task_id")
    if not open_task(instance, task):
        raise OapiRefusal(WRONG_STATE, "审批任务已处理")
    if task.user != user:
        raise request.invalid("actioner_userid")
    instance.flow.decide(task, agree=RESULTS[result], at=call.at, remark=remark)
    return oapi_ok(call.request_id, result=True, success=True)


def comment(state: SandboxState, call: Call) -> Answer:
    """``/topapi/process/instance/comment/add``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    request.text("text")
    text, user = _short(request, "text"), request.text("comment_userid")
    if user not in state.organisation.people:
        raise OapiRefusal(60_121, "找不到该用户")
    instance.flow.comment(user, text, at=call.at)
    return oapi_ok(call.request_id, result=True, success=True)


def terminate(state: SandboxState, call: Call) -> Answer:
    """``/topapi/process/instance/terminate``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    system = request.flag_or("is_system", default=True)
    originator = instance.request.originator
    if not system and request.text("operating_userid") != originator:
        raise request.invalid("operating_userid")
    user, remark = request.text_or("operating_userid", originator), _short(request, "remark")
    if not instance.request.template.revocable:
        raise OapiRefusal(NOT_REVOCABLE, "审批系统错误, 您没有任务处理的权限")
    if wrong := ended_or_too_young(state, call, instance):
        raise OapiRefusal(WRONG_STATE, wrong)
    instance.flow.terminate(user, at=call.at, remark=remark)
    return oapi_ok(call.request_id, result=True, success=True)


def _short(request: Parameters, name: str) -> str:
    text = request.text_or(name, "")
    if len(text) > LONGEST_REMARK:
        raise request.invalid(name)
    return text
