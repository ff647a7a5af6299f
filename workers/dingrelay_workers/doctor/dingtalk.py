"""DingTalk: each app's credentials and agent id."""

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.dingtalk.apis import MESSAGE_PROGRESS
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
    Throttled,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.doctor.check_result import CheckResult, Verdict
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.store.connections import open_redis

NO_TASK = 1
"""A task id that no app has: the answer only tells whether the agent id is good."""
BAD_AGENT = {"40056", "70003", "70004"}
"""Codes for an agent id that does not exist, or is another app's (API §5.3)."""


async def check_dingtalk(settings: Settings, *, redis_answers: bool) -> list[CheckResult]:
    """One finding for each app's credentials, and one for its agent id.

    The agent id is asked about with the fleet's token, and so only where Redis answers.
    """
    if not settings.apps:
        advice = "set DINGTALK_APP_KEY, DINGTALK_APP_SECRET and DINGTALK_AGENT_ID"
        return [CheckResult("dingtalk", "failed", "no app is configured", advice)]
    redis = open_redis(settings)
    results: list[CheckResult] = []
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier(settings.codes), settings)
        rules = Rules.from_settings({}, settings.egress)
        breakers = Breakers.from_settings(redis, rules, settings)
        limiter = Limiter(redis, rules, max_wait=0, local_waiters=1, breakers=breakers)
        tokens = Tokens(redis, transport, settings, limiter, worker="doctor")
        for app in sorted(settings.apps):
            credentials = await _credentials(app, settings, tokens)
            results.append(credentials)
            if credentials.verdict == "ok" and redis_answers:
                results.append(await _agent(app, settings, tokens, transport))
        await tokens.close()
    await redis.aclose()
    return results


async def _credentials(app: str, settings: Settings, tokens: Tokens) -> CheckResult:
    """Ask DingTalk itself: a token that the fleet shares says nothing of a new secret."""
    check = f"dingtalk {app} credentials"
    try:
        settings.app(app)
        _, validity = await tokens.request(app)
    except SettingsError as error:
        return CheckResult(check, "failed", str(error), "set it")
    except DingTalkError as error:
        return _trouble(check, error)
    return CheckResult(check, "ok", f"a token, good for {validity:.0f} s")


async def _agent(app: str, settings: Settings, tokens: Tokens, transport: Transport) -> CheckResult:
    check = f"dingtalk {app} agent id"
    agent = settings.app(app).agent_id
    suffix = "" if app == "default" else f"_{app.upper()}"
    variable = f"DINGTALK_AGENT_ID{suffix}"
    if not agent:
        found = f"{variable} is not set: messages can't be sent"
        return CheckResult(check, "failed", found, "set it")
    request = Request(MESSAGE_PROGRESS, body={"agent_id": agent, "task_id": NO_TASK})
    try:
        token = await tokens.token(app)
        try:
            await transport.request(request, token.value)
        except TokenInvalid:
            token = await tokens.token(app, distrust=token)
            await transport.request(request, token.value)
    except (Permanent, NotFound) as error:
        if error.code in BAD_AGENT:
            found = f"DingTalk does not take it: {error.code} {error.message}"
            return CheckResult(check, "failed", found, f"correct {variable}")
    except DingTalkError as error:
        return _trouble(check, error)
    return CheckResult(check, "ok", agent)


def _trouble(check: str, error: DingTalkError) -> CheckResult:
    """What a failed call says."""
    found = f"{error.code}: {error.message}"
    match error:
        case Credentials():
            return CheckResult(
                check, "failed", found, "correct DINGTALK_APP_KEY / DINGTALK_APP_SECRET"
            )
        case Transient() | Ambiguous():
            return CheckResult(check, "unreachable", found, error.hint or "check the network")
        case _:
            verdict: Verdict = "warning" if isinstance(error, Throttled | Permission) else "failed"
            return CheckResult(check, verdict, found, error.hint)
