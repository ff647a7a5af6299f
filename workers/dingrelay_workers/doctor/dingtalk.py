"""DingTalk: each app's credentials, agent id and permissions."""

from typing import NamedTuple

from redis.exceptions import RedisError

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.time_spans import span
from dingrelay_tasks.sentence import Sentence, en
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.dingtalk.apis import (
    APPROVAL_READ,
    APPROVAL_SCHEMA,
    DEPARTMENT,
    MEMBERS,
    MESSAGE_PROGRESS,
    USER,
    USER_BY_MOBILE,
)
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
from dingrelay_workers.doctor.causes import CheckResult, Verdict
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.store.connections import open_redis

NO_TASK = 1
"""A task id that no app has: the answer only shows whether the agent id is good."""
NO_ID = "dingrelay-doctor"
"""An id that neither a person nor an approval has."""


class Right(NamedTuple):
    """A permission of DingTalk's.

    Attributes:
        name: of the check, with a place for the app.
        permission: its id in DingTalk's developer console.
        request: a read that needs it and changes nothing.
        purpose: what does not work without it.
    """

    name: str
    permission: str
    request: Request
    purpose: str


RIGHTS = (
    Right(
        en("dingtalk {} contacts"),
        "qyapi_get_department_list",
        Request(DEPARTMENT, body={"dept_id": 1}),
        en("user-sync and events of departments need it"),
    ),
    Right(
        en("dingtalk {} members"),
        "qyapi_get_department_member",
        Request(MEMBERS, body={"dept_id": 1, "cursor": 0, "size": 1}),
        en("user-sync needs it"),
    ),
    Right(
        en("dingtalk {} people"),
        "qyapi_get_member",
        Request(USER, body={"userid": NO_ID}),
        en("events of people, and finding out who gets nothing, need it"),
    ),
    Right(
        en("dingtalk {} mobile numbers"),
        "qyapi_get_member_by_mobile",
        Request(USER_BY_MOBILE, body={"mobile": "10000000000"}),
        en("messages to mobile numbers that no sync has read need it"),
    ),
    Right(
        en("dingtalk {} approvals"),
        "Workflow.Form.Read",
        Request(APPROVAL_SCHEMA, query={"processCode": "PROC-DOES-NOT-EXIST"}),
        en("the forms of approval-create need it"),
    ),
    Right(
        en("dingtalk {} approval states"),
        "Workflow.Instance.Read",
        Request(APPROVAL_READ, query={"processInstanceId": NO_ID}),
        en("the states of approvals, and creating none twice, need it"),
    ),
)
"""Permissions that a harmless read shows: DingTalk has no list of an app's permissions (API §11.11)."""
OUT_OF_SCOPE = {"50002", "50004"}
"""Codes for what is outside the part of the organisation that the app may see, which it may be asked for (API §5.3)."""
BAD_AGENT = {"40056", "70003", "70004"}
"""Codes for an agent id that does not exist, or is another app's (API §5.3)."""


async def check_dingtalk(settings: Settings, *, redis_writes: bool) -> list[CheckResult]:
    """One result for each app's credentials, and one for its agent id and each permission.

    These are asked about with the fleet's token, and so only where Redis keeps one.
    """
    if not settings.apps:
        advice = en("set DINGTALK_APP_KEY, DINGTALK_APP_SECRET and DINGTALK_AGENT_ID")
        return [CheckResult("dingtalk", "failed", "no app is configured", advice)]
    redis = open_redis(settings)
    results: list[CheckResult] = []
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier(settings.codes), settings)
        rules = Rules.from_settings({}, settings.egress)
        apps = CurrentApps(settings)
        breakers = Breakers.from_settings(redis, rules, settings, apps)
        limiter = Limiter(redis, rules, max_wait=0, local_waiters=1, breakers=breakers)
        tokens = Tokens(redis, transport, settings, limiter, apps, worker="doctor")
        for app in sorted(settings.apps):
            credentials = await _credentials(app, settings, tokens)
            results.append(credentials)
            if credentials.verdict != "ok" or not redis_writes:
                continue
            try:
                results.append(await _agent(app, settings, tokens, transport))
                results += [await _right(app, right, tokens, transport) for right in RIGHTS]
            except (RedisError, OSError) as error:
                finding = en("not asked: Redis has failed ({})", type(error).__name__)
                check = f"dingtalk {app}"
                results.append(CheckResult(check, "unreachable", finding, "run it again"))
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
    return CheckResult(check, "ok", en("a token, good for {}", span(validity)))


async def _agent(app: str, settings: Settings, tokens: Tokens, transport: Transport) -> CheckResult:
    check = f"dingtalk {app} agent id"
    agent = settings.app(app).agent_id
    suffix = "" if app == "default" else f"_{app.upper()}"
    variable = f"DINGTALK_AGENT_ID{suffix}"
    if not agent:
        finding = en("{} is not set: messages can't be sent", variable)
        return CheckResult(check, "failed", finding, "set it")
    request = Request(MESSAGE_PROGRESS, body={"agent_id": agent, "task_id": NO_TASK})
    try:
        await _send_request(app, request, tokens, transport)
    except (Permanent, NotFound) as error:
        if error.code in BAD_AGENT:
            finding = en("DingTalk does not take it: {} {}", error.code, error.message)
            return CheckResult(check, "failed", finding, en("correct {}", variable))
    except DingTalkError as error:
        return _trouble(check, error)
    return CheckResult(check, "ok", agent)


async def _right(app: str, right: Right, tokens: Tokens, transport: Transport) -> CheckResult:
    """Whether the app may read the data that a feature needs."""
    check = Sentence(right.name, app)
    try:
        await _send_request(app, right.request, tokens, transport)
    except Permission as error:
        if error.code in OUT_OF_SCOPE:
            finding = en("permitted, for a part of the organisation")
            return CheckResult(check, "ok", finding)
        finding = en("not permitted: {} {}", error.code, error.message)
        advice = en("allow {} in DingTalk's console: {}", right.permission, right.purpose)
        return CheckResult(check, "warning", finding, advice)
    except (Permanent, NotFound):
        pass  # it is allowed to ask, and there is no such thing
    except DingTalkError as error:
        return _trouble(check, error)
    return CheckResult(check, "ok", "permitted")


async def _send_request(app: str, request: Request, tokens: Tokens, transport: Transport) -> None:
    token = await tokens.token(app)
    try:
        await transport.request(request, token.value)
    except TokenInvalid:
        token = await tokens.token(app, distrust=token)
        await transport.request(request, token.value)


def _trouble(check: str, error: DingTalkError) -> CheckResult:
    """The text for a failed call."""
    finding = en("{}: {}", error.code, error.message)
    match error:
        case Credentials():
            return CheckResult(
                check, "failed", finding, "correct DINGTALK_APP_KEY / DINGTALK_APP_SECRET"
            )
        case Transient() | Ambiguous():
            return CheckResult(check, "unreachable", finding, error.hint or en("check the network"))
        case _:
            verdict: Verdict = "warning" if isinstance(error, Throttled | Permission) else "failed"
            return CheckResult(check, verdict, finding, error.hint)
