"""What can be done to an approval after it was created (API §11.8)."""

from dingrelay_sandbox.answers import Answer, Refusal, RestRefusal, json_answer
from dingrelay_sandbox.apis.approval_request import LONGEST_REMARK
from dingrelay_sandbox.apis.approvals import find_instance
from dingrelay_sandbox.approval_flow import Task
from dingrelay_sandbox.approvals import Instance
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import World

LONGEST_REDIRECT_REMARK = 256
MOST_ATTACHMENTS = 20
RESULTS = {"agree": True, "refuse": False}


def execute(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/execute``: agree or refuse."""
    parameters = call.parameters
    instance = find_instance(world, parameters.text("processInstanceId"))
    result = parameters.text("result")
    if result not in RESULTS:
        raise parameters.invalid("result")
    remark = _remark(parameters, LONGEST_REMARK)
    task = _task(instance, parameters, "actionerUserId")
    instance.flow.decide(task, agree=RESULTS[result], at=call.at, remark=remark)
    return json_answer({"result": True, "success": True})


def redirect(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/tasks/redirect``: hand a task to somebody else."""
    parameters = call.parameters
    instance = world.approvals.of_task(parameters.whole("taskId"))
    if instance is None:
        raise _refused("审批任务不存在")
    to_user = _person(world, parameters, "toUserId")
    remark = _remark(parameters, LONGEST_REDIRECT_REMARK)
    task = _task(instance, parameters, "operateUserId")
    instance.flow.redirect(task, to_user, at=call.at, remark=remark)
    return json_answer({"result": True})


def comment(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/comments``."""
    parameters = call.parameters
    instance = find_instance(world, parameters.text("processInstanceId"))
    text = parameters.text("text")
    if len(text) > LONGEST_REMARK:
        raise parameters.invalid("text")
    if parameters.has("file"):
        files = parameters.part("file")
        if files.has("attachments") and len(files.objects("attachments")) > MOST_ATTACHMENTS:
            raise files.invalid("attachments")
    user = _person(world, parameters, "commentUserId")
    instance.flow.comment(user, text, at=call.at)
    return json_answer({"result": True, "success": True})


def _task(instance: Instance, parameters: Parameters, user: str) -> Task:
    """The task that a call is about: open, and the caller's."""
    task = instance.flow.find(parameters.whole("taskId"))
    if task is None:
        raise _refused("审批任务不存在")
    if task.status != "RUNNING":
        raise _refused("审批任务已处理")
    if task.user != parameters.text(user):
        raise _refused("不是该审批任务的审批人")
    return task


def _person(world: World, parameters: Parameters, name: str) -> str:
    userid = parameters.text(name)
    if userid not in world.organisation.people:
        raise _refused("用户不存在")
    return userid


def _remark(parameters: Parameters, longest: int) -> str:
    remark = parameters.text_or("remark", "")
    if len(remark) > longest:
        raise parameters.invalid("remark")
    return remark


def _refused(message: str) -> Refusal:
    return RestRefusal("processInstanceInvalidParameter", message)
