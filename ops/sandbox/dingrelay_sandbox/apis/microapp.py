"""Which people see an application (API §11.11)."""

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT
from dingrelay_sandbox.state import SandboxState


def visible_scope(state: SandboxState, call: Call) -> Answer:
    """``GET /v1.0/microApp/apps/{agentId}/scopes``; for everybody it is empty."""
    app = call.caller
    if call.path.split("/")[4] != app.agent_id:
        raise RestRefusal("invalidParameter.agentId.notFound", "应用不存在")
    departments, users = app.visible
    everybody = ROOT in departments
    scope = {
        "deptIds": [] if everybody else list(departments),
        "userIds": [] if everybody else list(users),
        "roleIds": [],
        "onlyAdminVisible": not departments and not users,
    }
    return json_answer({"result": scope})
