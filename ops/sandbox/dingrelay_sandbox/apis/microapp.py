"""Which people see an application (API §11.11)."""

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT
from dingrelay_sandbox.state import World


def visible_scope(world: World, call: Call) -> Answer:
    """``GET /v1.0/microApp/apps/{agentId}/scopes``; for everybody it is empty."""
    app = call.caller
    if call.path.split("/")[4] != app.agent_id:
        raise RestRefusal("invalidParameter.agentId.notFound", "应用不存在")
    everybody = ROOT in app.departments
    scope = {
        "deptIds": [] if everybody else list(app.departments),
        "userIds": [] if everybody else list(app.users),
        "roleIds": [],
        "onlyAdminVisible": False,
    }
    return json_answer({"result": scope})
