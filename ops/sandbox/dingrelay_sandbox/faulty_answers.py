"""What a scripted fault answers instead of DingTalk, or makes of DingTalk's answer."""

import json
from dataclasses import replace

from dingrelay_sandbox.answers import (
    GATEWAY_PAGE,
    MESSAGES,
    Answer,
    OapiRefusal,
    Refusal,
    RestRefusal,
    credentials_refused,
    json_answer,
    success,
    throttled,
    token_refused,
)
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.faults import FaultSpec


def fault_code(spec: FaultSpec) -> str:
    """How the audit names the fault's answer."""
    return spec.code or (str(spec.status) if spec.status else spec.kind)


def faulty_answer(spec: FaultSpec, call: Call, own: Answer | None = None) -> Answer:
    """The answer that a fault gives.

    Args:
        spec: the fault.
        call: the call that it answers.
        own: DingTalk's answer; None where the call was not carried out.
    """
    answer = _answer(spec, call, own or _hollow(call))
    return replace(answer, status=spec.status or answer.status, headers=tuple(spec.headers.items()))


def _answer(spec: FaultSpec, call: Call, own: Answer) -> Answer:
    if spec.body is not None:
        return _verbatim(spec, call)
    match spec.kind:
        case "truncated":
            return replace(own, body=own.body[: len(own.body) // 2])
        case "wrong_types":
            return _wrong_types(own)
        case "html":
            return Answer(200, GATEWAY_PAGE, "text/html")
        case "http":
            return Answer(502, (spec.message or "upstream connect error").encode(), "text/plain")
        case _:
            return _refusal(spec, call).answer(call.request_id)


def _refusal(spec: FaultSpec, call: Call) -> Refusal:
    match spec.kind:
        case "throttle":
            code, message = spec.code or "", spec.message
            return throttled(call.dialect, call.path, code=code, message=message)
        case "token_expired":
            return token_refused(call.dialect, expired=True)
        case "credentials_refused":
            return credentials_refused(call.dialect)
        case _:
            return _error(spec, call)


def _error(spec: FaultSpec, call: Call) -> Refusal:
    code = spec.code or ("-1" if call.dialect == "oapi" else "systemError")
    message = spec.message or MESSAGES.get(code, MESSAGES["-1"])
    if call.dialect == "oapi":
        return OapiRefusal(code, message)
    return RestRefusal(code, message, status=500)


def _verbatim(spec: FaultSpec, call: Call) -> Answer:
    status = 200 if call.dialect == "oapi" else 400
    if isinstance(spec.body, str):
        content_type = "text/html" if spec.kind == "html" else "application/json"
        return Answer(status, spec.body.encode(), content_type)
    return json_answer(spec.body, status)


def _hollow(call: Call) -> Answer:
    """A success without an effect, for a fault that spoils an answer without one."""
    fields = {"result": True, "success": True} if call.dialect == "rest" else {}
    return success(call.dialect, call.request_id, fields)


def _wrong_types(own: Answer) -> Answer:
    try:
        content = json.loads(own.body)
    except ValueError:
        return own
    changed = {name: _other_type(value) for name, value in content.items()}
    return json_answer(changed, own.status)


def _other_type(value: object) -> object:
    match value:
        case bool() | int() | float():
            return [value]
        case str():
            return {"value": value}
        case _:
            return "[object Object]"
