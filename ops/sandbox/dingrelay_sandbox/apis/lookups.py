"""Finding a person by another name, and counting people, in both generations (API §3.1, §11.3)."""

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState


def by_mobile(state: SandboxState, call: Call) -> Answer:
    """``v2/user/getbymobile``."""
    userid = _found(state, call, "mobile", call.parameters.text("mobile"))
    found = {"userid": userid, "exclusive_account_userid_list": []}
    return oapi_ok(call.request_id, result=found)


def by_mobile_v1(state: SandboxState, call: Call) -> Answer:
    """``GET /user/get_by_mobile``."""
    userid = _found(state, call, "mobile", call.parameters.text("mobile"))
    return oapi_ok(call.request_id, userid=userid)


def by_unionid(state: SandboxState, call: Call) -> Answer:
    """``user/getbyunionid``."""
    userid = _found(state, call, "unionid", call.parameters.text("unionid"))
    return oapi_ok(call.request_id, result={"contact_type": 0, "userid": userid})


def by_unionid_v1(state: SandboxState, call: Call) -> Answer:
    """``GET /user/getUseridByUnionid``."""
    userid = _found(state, call, "unionid", call.parameters.text("unionid"))
    return oapi_ok(call.request_id, contactType=0, userid=userid)


def count(state: SandboxState, call: Call) -> Answer:
    """``user/count``."""
    only_active = call.parameters.flag_or("only_active", default=False)
    return oapi_ok(call.request_id, result={"count": _counted(state, only_active=only_active)})


def count_v1(state: SandboxState, call: Call) -> Answer:
    """``GET /user/get_org_user_count``."""
    only_active = call.parameters.flag_or("onlyActive", default=False)
    return oapi_ok(call.request_id, count=_counted(state, only_active=only_active))


def _found(state: SandboxState, call: Call, field: str, value: str) -> str:
    userid = state.organisation.find(field, value)
    if userid is None or field in call.caller.hidden_fields:
        raise OapiRefusal(60_121, "找不到该用户")
    if not state.scopes.of(call.caller).user(userid):
        raise OapiRefusal(50_002, "企业员工不在授权范围内")
    return userid


def _counted(state: SandboxState, *, only_active: bool) -> int:
    organisation = state.organisation
    if not only_active:
        return len(organisation.people)
    return sum(bool(organisation.fields(each)["active"]) for each in organisation.people.values())
