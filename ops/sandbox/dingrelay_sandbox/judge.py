"""The verdict on one call, from arrival to answer: the order in which DingTalk's gateway decides."""

from dataclasses import dataclass
from typing import Literal

from dingrelay_sandbox.answers import (
    Answer,
    Banned,
    OapiRefusal,
    Refusal,
    RestRefusal,
    Verdict,
    path_unknown,
    quota_used_up,
    token_missing,
    token_refused,
    too_many,
)
from dingrelay_sandbox.apis.table import Endpoint, find
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.faults import (
    FaultSpec,
    fault_code,
    faulty_answer,
    truncated,
    wrong_types,
)
from dingrelay_sandbox.world import World

Ending = Literal["answer", "hang", "reset", "close"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ends on the wire. Without "answer" as its ending, the answer is never sent."""

    ending: Ending
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Ruling:
    answer: Answer
    verdict: Verdict
    code: str = ""


NOTHING = Answer(200, b"")


def judge(world: World, call: Call) -> Outcome:
    """Carry the call out, or refuse or spoil it, and write it into the audit."""
    _know_app(world, call)
    fault = None
    if not world.limiter.egress(call.remote, call.at):
        ruling = _refused(call, Banned(world.limits.egress_ban_answer))
    else:
        fault = world.faults.draw(call.path, call.fault_parameters)
        spoilt_before = fault is not None and not fault.after_effect
        ruling = _spoilt(world, call, fault) if spoilt_before and fault else _rule(world, call)
    world.audit.record(
        call_id=call.id,
        at=call.at,
        monotonic=call.monotonic,
        app_key=call.app.app_key if call.app else "",
        api=call.path,
        verdict=ruling.verdict,
        code=ruling.code,
        fault=fault.kind if fault else "",
        recipients=call.recipients,
        size=call.size,
    )
    return _ending(fault, call, ruling.answer)


def _know_app(world: World, call: Call) -> None:
    """Note whose call it is, for the audit, whatever its token is worth now."""
    _, app_key = world.tokens.look_up(_token(call), call.at)
    call.app = world.apps.get(app_key)
    if call.app is not None:
        world.audit.arrive(app_key, call.path, call.at, world.limits.calls_of(call.path))


def _rule(world: World, call: Call) -> _Ruling:
    try:
        return _Ruling(_carry_out(world, call), "ok")
    except Refusal as refusal:
        return _refused(call, refusal)


def _carry_out(world: World, call: Call) -> Answer:
    endpoint = find(call.method, call.path)
    if endpoint is None:
        raise path_unknown(call.dialect, call.path)
    if endpoint.access == "token":
        _check_token(world, call)
        _check_rate(world, call)
        _check_quota(world, call, endpoint)
    if call.method == "POST":
        _check_body(call)
    return endpoint.run(world, call)


def _check_token(world: World, call: Call) -> None:
    value = _token(call)
    if not value:
        raise token_missing(call.dialect)
    state, app_key = world.tokens.look_up(value, call.at)
    if state != "good" or app_key not in world.apps:
        raise token_refused(call.dialect, expired=state == "expired")


def _check_rate(world: World, call: Call) -> None:
    breach = world.limiter.call(call.caller.app_key, call.path, call.at)
    if breach is not None:
        code = world.limits.throttle_code
        raise too_many(call.dialect, call.path, breach, at=call.at, code=code)


def _check_quota(world: World, call: Call, endpoint: Endpoint) -> None:
    if endpoint.counted and not world.limiter.quota(call.caller.organisation, call.at):
        raise quota_used_up(call.dialect, call.path)


def _check_body(call: Call) -> None:
    """A POST needs a JSON object and says so (API §1, §5.1)."""
    if call.content_type != "application/json":
        if call.dialect == "rest":
            raise RestRefusal("Missingbody", "body is mandatory for this action.")
        raise OapiRefusal(43_004, "无效的HTTP HEADER Content-Type")
    if call.payload is None:
        if call.dialect == "rest":
            raise RestRefusal("invalidParameter", "请求体不是JSON对象")
        raise OapiRefusal(43_009, "post body必须是json格式")


def _spoilt(world: World, call: Call, fault: FaultSpec) -> _Ruling:
    """The ruling of a fault that meets the call before its effect."""
    if fault.kind == "token_expired":
        if call.app is not None:
            world.tokens.expire(call.at, call.app.app_key)
        return _refused(call, token_refused(call.dialect, expired=True))
    answer = NOTHING
    if fault.kind not in {"hang", "reset_before"}:
        answer = faulty_answer(fault, call.dialect, call.path, call.request_id)
    verdict: Verdict = "throttled" if fault.kind == "throttle" else "fault"
    return _Ruling(answer, verdict, fault_code(fault))


def _refused(call: Call, refusal: Refusal) -> _Ruling:
    return _Ruling(refusal.answer(call.request_id), refusal.verdict, refusal.code)


def _ending(fault: FaultSpec | None, call: Call, answer: Answer) -> Outcome:
    """What a fault lets through of the answer."""
    if fault is None:
        return Outcome("answer", answer)
    match fault.kind:
        case "hang":
            return Outcome("hang", answer)
        case "reset_before" | "reset_after":
            return Outcome("reset", answer)
        case "lost_answer":
            return Outcome("close", answer)
        case "truncated":
            return Outcome("answer", truncated(answer))
        case "wrong_types":
            return Outcome("answer", wrong_types(answer))
        case _ if fault.after_effect:
            spoilt = faulty_answer(fault, call.dialect, call.path, call.request_id)
            return Outcome("answer", spoilt)
        case _:
            return Outcome("answer", answer)


def _token(call: Call) -> str:
    if call.dialect == "rest":
        return call.header_token
    return call.query.get("access_token", "")
