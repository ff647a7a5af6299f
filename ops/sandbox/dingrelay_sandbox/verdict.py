"""The verdict on one call, from arrival to answer: the order in which DingTalk's gateway decides."""

from dataclasses import dataclass
from typing import Literal

from dingrelay_sandbox import answers
from dingrelay_sandbox.answers import Answer, Refusal, Verdict, refused
from dingrelay_sandbox.apis.api import Api, check_rate, find
from dingrelay_sandbox.bodies import FORM, JSON, MULTIPART
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.faults import FaultSpec, fault_code, faulty_answer
from dingrelay_sandbox.state import SandboxState

Ending = Literal["answer", "hang", "reset", "close"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ends on the wire. Without "answer" as its ending, the answer is never sent."""

    ending: Ending
    answer: Answer


NOTHING = Answer(200, b"")
ENDINGS: dict[str, Ending] = {
    "hang": "hang",
    "reset_before": "reset",
    "reset_after": "reset",
    "lost_answer": "close",
}
"""The kinds of faults that send no answer, and what they do instead."""


def know_caller(state: SandboxState, call: Call) -> None:
    """Note whose call it is, whatever its token is worth now."""
    _, app_key = state.tokens.look_up(call.token, call.at)
    call.app = state.apps.get(app_key)


def respond(state: SandboxState, call: Call) -> Outcome:
    """Carry the call out, or refuse or spoil it, and write it into the audit."""
    know_caller(state, call)
    if call.app is not None:
        rate = state.limits.calls_of(call.path)
        state.audit.arrive(call.app.app_key, call.method, call.path, call.monotonic, rate)
    fault, code = None, ""
    verdict: Verdict = "ok"
    try:
        if not state.limiter.egress(call.remote, call.at):
            raise answers.Banned(state.limits.egress_ban_answer)
        fault = state.faults.draw(call) if state.faults else None
        if fault is not None and not fault.after_effect:
            answer, verdict, code = _spoilt(state, call, fault)
        else:
            answer = _execute(state, call)
    except Refusal as refusal:
        answer = refusal.answer(call.dialect, call.request_id)
        verdict, code = refusal.verdict, refusal.code
    state.audit.record(
        {
            "id": call.id,
            "at": call.at,
            "monotonic": call.monotonic,
            "app": call.app.app_key if call.app else "",
            "api": call.path,
            "verdict": verdict,
            "code": code,
            "fault": fault.kind if fault else "",
            "recipients": call.recipients,
            "bytes": call.size,
            "counted": call.counted,
        }
    )
    if fault is None:
        return Outcome("answer", answer)
    ending = ENDINGS.get(fault.kind, "answer")
    if ending == "answer" and fault.after_effect:
        _end_tokens(state, call, fault)
        return Outcome(ending, faulty_answer(fault, call, answer))
    return Outcome(ending, answer)


def _execute(state: SandboxState, call: Call) -> Answer:
    endpoint = find(call.method, call.path)
    if endpoint is None:
        raise answers.path_unknown(call.dialect, call.method, call.path)
    if endpoint.access == "token":
        _check_token(state, call)
        check_rate(state, call)
        if endpoint.counted:
            call.counted = state.limiter.quota(call.caller.organisation, call.at)
            if not call.counted:
                raise answers.quota_used_up(call.dialect, call.path)
    if call.method == "POST":
        _check_body(call, endpoint)
    found = endpoint.run(state, call)
    if isinstance(found, Answer):
        return found
    return answers.success(call.dialect, call.request_id, found)


def _check_token(state: SandboxState, call: Call) -> None:
    token_state, app_key = state.tokens.look_up(call.token, call.at)
    if token_state != "good" or app_key not in state.apps:
        raise answers.token_refused(call.dialect, token_state if call.token else "")


def _check_body(call: Call, endpoint: Api) -> None:
    """A POST needs a JSON object and says so (API §1, §5.1); topapi takes forms, too."""
    if endpoint.takes_file:
        if call.content_type != MULTIPART:
            raise Refusal(43_008, "需要multipart类型")
        return
    if call.content_type == FORM and call.path.startswith("/topapi/"):
        return
    if call.content_type != JSON:
        raise refused(call.dialect, "content type")
    if call.payload is None:
        raise refused(call.dialect, "body")


def _spoilt(state: SandboxState, call: Call, fault: FaultSpec) -> tuple[Answer, Verdict, str]:
    """The answer of a fault that meets the call before its effect, what the audit says of it, and its code."""
    _end_tokens(state, call, fault)
    answer = NOTHING if fault.kind in ENDINGS else faulty_answer(fault, call)
    verdict: Verdict = "fault"
    if fault.kind == "throttle":
        verdict = "throttled"
    elif fault.kind == "token_expired":
        verdict = "token"
    return answer, verdict, fault_code(fault)


def _end_tokens(state: SandboxState, call: Call, fault: FaultSpec) -> None:
    if fault.kind == "token_expired" and call.app is not None:
        state.tokens.expire(call.at, call.app.app_key)
