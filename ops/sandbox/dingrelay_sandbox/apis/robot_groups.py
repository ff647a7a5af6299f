"""Messages that an app's robot posts in a group (API §2.7, §11.4)."""

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.apis.robots import check_robot, read_keys, read_message
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import SandboxState

LARGEST_PARAM_BYTES = 15_000
LARGEST_PAGE = 200


def send(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/robot/groupMessages/send``."""
    parameters = call.parameters
    check_robot(call, parameters)
    group = _group(state, parameters)
    message = read_message(parameters)
    if len(message["msgParam"].encode(errors="replace")) > LARGEST_PARAM_BYTES:
        raise RestRefusal("invalidParameter.msgParam.invalid", "msgParam过长")
    app = call.caller
    key = state.robots.post_in_group(
        app.app_key, app.robot, group, dict(message), at=call.at, call_id=call.id
    )
    return json_answer({"processQueryKey": key})


def query(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/robot/groupMessages/query``: nobody reads in the sandbox."""
    parameters = call.parameters
    check_robot(call, parameters)
    group = _group(state, parameters)
    if not 1 <= parameters.whole_or("maxResults", LARGEST_PAGE) <= LARGEST_PAGE:
        raise parameters.invalid("maxResults")
    post = state.robots.group_posts.get(parameters.text("processQueryKey"))
    if post is None or post.app_key != call.caller.app_key or post.group != group:
        raise parameters.invalid("processQueryKey")
    status = "RECALLED" if post.recalled else "SUCCESS"
    return json_answer({"sendStatus": status, "readUserIds": [], "hasMore": False})


def recall(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/robot/groupMessages/recall``."""
    parameters = call.parameters
    check_robot(call, parameters)
    group = _group(state, parameters)
    done: list[str] = []
    failed: dict[str, str] = {}
    for key in read_keys(parameters):
        post = state.robots.group_posts.get(key)
        if post is None or post.app_key != call.caller.app_key or post.group != group:
            failed[key] = "消息不存在"
        else:
            post.recalled = True
            done.append(key)
    return json_answer({"successResult": done, "failedResult": failed})


def _group(state: SandboxState, parameters: Parameters) -> str:
    group = parameters.text("openConversationId")
    if group not in state.robots.groups:
        raise RestRefusal("invalidParameter.openConversationId.invalid", "群不存在")
    return group
