"""What can be done to an approval after it was created (API §11.8).

The codes of refusals are those of DingTalk's pages (KB:0499, KB:0500, KB:0506, KB:0507); of a
decision on somebody else's task these say nothing.
"""

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.apis.approval_request import (
    LONGEST_REMARK,
    ended_or_too_young,
    open_task,
)
from dingrelay_sandbox.approvals import Instance
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import SandboxState

LONGEST_REDIRECT_REMARK = 256
MOST_ATTACHMENTS = 20
RESULTS = {"agree": True, "refuse": False}
DONE = {"result": True, "success": True}


def execute(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/execute``: agree or refuse."""
    parameters = call.parameters
    instance = _find(state, parameters)
    user = _given(parameters, "actionerUserId", "invalidInstanceExecuteActionerUserId")
    if parameters.text_or("result", "") not in RESULTS:
        raise _refused("invalidInstanceExecuteResult", "审批操作取值必填 且值必须为agree或refuse")
    agree = RESULTS[parameters.text("result")]
    remark = _remark(parameters, LONGEST_REMARK)
    _check_files(parameters)
    task = instance.flow.find(parameters.whole("taskId"))
    if task is None:
        raise _refused("processInstanceInvalidParameter", "任务不属于该流程实例")
    if not open_task(instance, task):
        raise _refused("aflowProcessInstStatusException", "审批单状态异常")
    if task.user != user:
        raise _refused("processInstanceInvalidParameter", "不是该审批任务的审批人")
    instance.flow.decide(task, agree=agree, at=call.at, remark=remark)
    return json_answer(DONE)


def redirect(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/tasks/redirect``: hand a task to somebody else."""
    parameters = call.parameters
    for name in ("taskId", "toUserId", "operateUserId"):
        if not parameters.has(name):
            raise _refused("param.blank", f"{name}参数不能为空")
    number = parameters.whole("taskId")
    instance = state.approvals.of_task(number)
    task = instance.flow.find(number) if instance else None
    if instance is None or task is None:
        raise _refused("param.illegal", "不合法的参数taskId")
    to_user = parameters.text("toUserId")
    if to_user not in state.organisation.people:
        raise _refused("param.illegal", "不合法的参数toUserId")
    remark = _remark(parameters, LONGEST_REDIRECT_REMARK)
    if instance.flow.status != "RUNNING":
        raise _refused("instance.status.error", "当前流程实例状态不是运行中不支持转交操作")
    if not open_task(instance, task):
        raise _refused("task.status.error", "当前任务状态不是运行中不支持转交操作")
    if task.user != parameters.text("operateUserId"):
        raise _refused("param.illegal.operator", "不合法的参数operateUserId")
    instance.flow.redirect(task, to_user, at=call.at, remark=remark)
    return json_answer({"result": True})


def comment(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/comments``."""
    parameters = call.parameters
    instance = _find(state, parameters)
    text = _given(parameters, "text", "invalidInstanceCommentText")
    user = _given(parameters, "commentUserId", "invalidInstanceCommentUserId")
    if len(text) > LONGEST_REMARK:
        raise parameters.invalid("text")
    _check_files(parameters)
    if user not in state.organisation.people:
        raise _refused("userNotExist", "用户不存在")
    if instance.flow.status == "TERMINATED":
        raise _refused("aflowProcessInstCanNotBeExecuted", "审批状态异常，无法执行")
    instance.flow.comment(user, text, at=call.at)
    return json_answer(DONE)


def terminate(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/terminate``."""
    parameters = call.parameters
    instance = _find(state, parameters)
    system = parameters.flag_or("isSystem", default=True)
    originator = instance.request.originator
    if not system:
        user = _given(parameters, "operatingUserId", "invalidInstanceTerminateOperatingUserId")
        if user not in state.organisation.people:
            raise _refused("userNotExist", "用户不存在")
        if user != originator:
            raise parameters.invalid("operatingUserId")
    remark = _remark(parameters, LONGEST_REMARK)
    if not instance.request.template.revocable:
        raise _refused("internalError", "您没有任务处理的权限")
    if wrong := ended_or_too_young(state, call, instance):
        raise _refused("aflowProcessInstStatusException", wrong)
    user = parameters.text_or("operatingUserId", originator)
    instance.flow.terminate(user, at=call.at, remark=remark)
    return json_answer(DONE)


def _find(state: SandboxState, parameters: Parameters) -> Instance:
    instance = state.approvals.instances.get(
        _given(parameters, "processInstanceId", "invalidInstanceId")
    )
    if instance is None:
        raise _refused("aflowProcessInstNotExist", "审批实例不存在")
    return instance


def _given(parameters: Parameters, name: str, code: str) -> str:
    """A text that must be there; each has a code of its own if it is not."""
    if not parameters.has(name):
        raise _refused(code, f"{name}不能为空")
    return parameters.text(name)


def _remark(parameters: Parameters, longest: int) -> str:
    remark = parameters.text_or("remark", "")
    if len(remark) > longest:
        raise parameters.invalid("remark")
    return remark


def _check_files(parameters: Parameters) -> None:
    if parameters.has("file"):
        files = parameters.part("file")
        if files.has("attachments") and len(files.objects("attachments")) > MOST_ATTACHMENTS:
            raise files.invalid("attachments")


def _refused(code: str, message: str) -> RestRefusal:
    return RestRefusal(code, message)
