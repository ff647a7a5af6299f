"""The one table from DingTalk's codes to the worker's reaction (API §5.3).

A row names its codes as DingTalk does, in either dialect; a trailing ``*`` stands for any rest, and
``88/…`` is a code that means something else inside that wrapper, and ``robot.webhook:…`` one that does at
that API. `BY_STATUS` holds what an HTTP
status means where the code is unknown or missing. Errors are parsed in all of their shapes (API §5.2).
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import to_json

from dingrelay_tasks.beijing import BEIJING
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    DingTalkError,
    Held,
    NotFound,
    Permanent,
    Permission,
    QuotaExhausted,
    Sickness,
    Throttled,
    TokenInvalid,
    Transient,
    redact,
    redacted,
)

SECOND = 1.0
MINUTE = 60.0
IP_BAN = 300.0
LONG = 600.0

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 600.0
"""Seconds; the bounds of any pause whose end DingTalk names."""
STRETCH = 10
"""A pause whose end DingTalk names is at most so many times as long as its row's:
whatever message and clocks say, a limit of calls a second is no reason to pause for minutes."""

LONGEST_VERBATIM = 16_384
"""Bytes of a refusal that is kept as DingTalk put it."""

NO_OBJECT = "not_json"
"""Our code for a success that is no JSON object."""
_FETCH_IT = en(
    "A job carries JSON only: fetch files from DingTalk itself, with a token of the app."
)

IP_BANNED = "ip_banned"
"""Our code for DingTalk's refusal of a whole address, which has no code of its own (API §6)."""

UNREADABLE = "unreadable"
"""Our code for an answer without a readable one."""

REDIRECTED = "redirected"
"""Our code for an answer that leads elsewhere: nothing was carried out, and it is not followed."""

CODES_KEPT = 1_000
"""Unknown codes that are remembered, so that a stream of nonsense can't fill the memory."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in an unsuccessful answer.

    Attributes:
        code: what to call it by.
        keys: what to look up in the table, the most specific first.
        message: DingTalk's words, redacted.
        request_id: DingTalk's id of the call, if given.
        until: when a limit ends, if the message says so.
    """

    code: str
    keys: tuple[str, ...] = ()
    message: str = ""
    request_id: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The meaning of some codes.

    Attributes:
        error: the class that is raised.
        codes: DingTalk's codes, separated by blanks.
        source: where this is known from.
        hint: what to do about it; empty for the class's own hint.
        pause: throttled: seconds to leave the API alone.
        everything: throttled: all APIs are meant.
        alone: throttled: only calls like this one are meant.
        ambiguous: transient for a reading call; a changing one may have been carried out.
        words: the row is meant only where DingTalk's message has one of these, separated by blanks.
    """

    error: type[DingTalkError]
    codes: str
    source: str
    hint: str = ""
    pause: float = SECOND
    everything: bool = False
    alone: bool = False
    ambiguous: bool = False
    words: str = ""


HINTS: dict[type[DingTalkError], str] = {
    Throttled: en("Nothing: the fleet pauses this API by itself."),
    TokenInvalid: en("Nothing: a new token is fetched by itself."),
    Transient: en("Nothing: it is tried again by itself."),
    Ambiguous: en("Nothing: the worker settles what became of the call by itself."),
    Permanent: en("Correct the job, then enqueue it again."),
    Held: en("Mend it in DingTalk's console; the app's jobs go on by themselves then."),
    Credentials: en(
        "Check the app key and the app secret in DingTalk's console and in the settings;"
        " the app's jobs go on by themselves then."
    ),
    Permission: en("Grant the app this permission in DingTalk's console, then requeue the job."),
    NotFound: en("Check the ids in the job; run a user-sync if they come from the directory."),
    QuotaExhausted: en("Requeue the job when the quota has been renewed, or buy more calls."),
}

_CONFIGURATION = en("Check the app's agent id and app key in the settings.")
_BUG = en("The request itself is malformed: report this with the code.")
_TEMPLATE = en("Compare process_code, form names and form values with the approval's template.")
_APPROVAL_PEOPLE = en(
    "Check the people and the department in the job: each must exist,"
    " and the originator must belong to the department."
)
_PATH = en(
    "Check path, method and ids in the job, and DINGTALK_OAPI_URL and DINGTALK_API_URL in the settings:"
    " DingTalk does not know this path."
)
_SCOPE = en("Add the person or department to the app's visible scope in DingTalk's console.")

_SIGN = en("Check the robot's secret in the settings, and the worker's clock.")
_ROBOT_IP = en("Add the workers' egress address to the robot's addresses in DingTalk.")
_ROBOT_GONE = en("Check that the robot is still in its group, and its webhook in the settings.")

ROWS: tuple[Row, ...] = (
    # Limits of calls
    Row(
        Throttled,
        "43004",
        "design §5; DingTalk's list (KB:0013) gives another meaning, which our requests rule out",
    ),
    Row(Throttled, "90018 90002 90019 45009", "API §5.3, KB:1433"),
    Row(Throttled, "90005 90006", "API §5.3, passwa11/ekp", pause=MINUTE),
    Row(
        Throttled,
        "90007 90008 90009 90010 90011 90012 90013 90014",
        "API §5.3, variants for ISVs",
        pause=MINUTE,
    ),
    Row(Throttled, "90001 90003 90004", "API §5.3, KB:0013", pause=LONG),
    Row(
        Throttled,
        IP_BANNED,
        "API §6, KB:0012, KB:1433",
        en("Spread the workers over more egress addresses, or lower the address's limit."),
        pause=IP_BAN,
        everything=True,
    ),
    Row(Throttled, "Forbidden.AccessDenied.QpsLimit*", "API §5.3, KB:0013"),
    Row(Throttled, "Forbidden.AccessDenied.QpmLimit*", "API §5.3, KB:0013", pause=MINUTE),
    Row(
        Throttled,
        "qps.exceed.limit request.overlimit oaplus.query.limit requestTooMuch"
        " request.too.frequent request.too.fast invokeFrequency send.too.fast"
        " send.byToken.tooFast too.many.people too.many.group autoflowLikeTriggerRateLimited"
        " systemError.busy request.often system.busy systemBusy",
        "API §5.3, KB:0013",
    ),
    Row(
        Throttled,
        "41046",
        "API §5.3: messages to everyone, so many a minute; all others go on",
        pause=MINUTE,
        alone=True,
    ),
    Row(Throttled, "41047 41048 143103 143104 143203 143204", "API §5.3", pause=MINUTE),
    Row(
        Throttled,
        "410100 130101 robot.webhook:660026 robot.webhook:ip_banned robot.webhook:redirected"
        " robot.webhook:unreadable",
        "API §12.3: one robot is blocked; JSON without an errcode is a sign of it, too",
        en("Nothing: the fleet leaves this robot alone for ten minutes."),
        pause=LONG,
    ),
    # Quotas
    Row(QuotaExhausted, "90020 Forbidden.AccessDenied.ApiCountLimitForOrg", "API §5.3, KB:1433"),
    Row(QuotaExhausted, "90030", "API §2.8"),
    Row(
        QuotaExhausted,
        "41045",
        "API §5.3: until tomorrow; a pause that long would hold every message of the app",
        en("The day's three messages to everyone are used up: requeue the job tomorrow."),
    ),
    Row(
        QuotaExhausted,
        "integrated.qps.exceed",
        "API §5.3",
        en("The day's calls of this API are used up: requeue the job tomorrow."),
    ),
    Row(
        Permanent,
        "143105 143205",
        "API §2.3, KB:0773",
        en("The person has had the day's messages of this app: requeue the job tomorrow."),
    ),
    Row(
        Permanent,
        "143106 143206",
        "API §2.3, KB:0773",
        en("The person already has this content today."),
    ),
    # Tokens and credentials
    Row(
        TokenInvalid,
        "40014 42001 41001 88/40000 40001 33001 52010 InvalidAuthentication accesstoken.expired"
        " AuthenticationFailed.MissingParameter",
        "API §1, §5.3, KB:0013",
    ),
    Row(Credentials, "40089 40096 invalidClientIdOrSecret invalid.client", "API §1, §5.3"),
    # DingTalk's own trouble
    Row(Transient, "-1", "API §5.3, KB:0013, §11.2", ambiguous=True),
    Row(
        Transient,
        "15 isp.*",
        "API §5.2, KB:0552: bad input has this code, too; §11.2",
        ambiguous=True,
    ),
    Row(
        Transient,
        "500 502 503 504 400001 34015 820008 systemError unknownError serviceBusy"
        " service.timeout operationTimeout sysErrror internalError",
        "API §4.1, §5.3",
        ambiguous=True,
    ),
    # Permissions
    Row(
        Permission,
        "60011 43007 48002 810007 apiPermissionDenied needAuth processSetupNoPermission"
        " Forbidden.AccessDenied.AccessTokenPermissionDenied",
        "API §5.3",
    ),
    Row(
        Held,
        "60020 Forbidden.AccessDenied.IpNotInWhiteList",
        "API §5.3",
        en("Add the workers' egress address to the app's IP allow-list in DingTalk's console."),
    ),
    Row(Permission, "50002 50004", "API §3.1, §5.3", _SCOPE),
    Row(Held, "50003 50005", "API §5.3", en("Enable the app in DingTalk's console.")),
    Row(
        Permission,
        "41028 41044",
        "API §5.3",
        en("The app may not send to these recipients; check its rights in DingTalk's console."),
    ),
    # Robots
    *(
        Row(error, "310000", "API §12.2, three generations of words", hint, words=words)
        for error, hint, words in (
            (
                Transient,
                en("Nothing: it is signed again by DingTalk's clock."),
                "签名过期 timestamp",
            ),
            (Permission, _SIGN, "签名不匹配 sign"),
            (Permission, _ROBOT_IP, "白名单 whitelist"),
            (Permanent, en("Put one of the robot's keywords into the message."), "关键词 keywords"),
        )
    ),
    Row(
        NotFound,
        "300001",
        "API §12.1, §12.5: the code has three meanings",
        _ROBOT_GONE,
        words="exist 不存在",
    ),
    Row(NotFound, "300005 400101 400106 400013", "API §12.1", _ROBOT_GONE),
    Row(Permission, "400102 bot.stopped", "API §12.1, §12.7", en("Enable the robot in DingTalk.")),
    Row(
        Permanent,
        "300001 400105 400201 400202 400301 400302 400303 400304 400401 400402 400403 400501 400503"
        " 400601 400602 401104",
        "API §12.1",
    ),
    Row(
        Permanent,
        "430101 430102 430103 430104 460101 101002 contain.*",
        "API §12.1, §12.7",
        en("Shorten or change the content, then enqueue it again."),
    ),
    Row(Transient, "500100 system.error", "API §12.1, §12.7", ambiguous=True),
    Row(
        NotFound,
        "invalidParameter.robotCode.notExsit staffId.notExisted session.notExisted session.expired group.disbanded"
        " miss.openConversationId invalid.openConversationId conversation.org.notMatch"
        " resource.not.found",
        "API §12.7",
        en("Check the robot, the group and the users in the job and in the settings."),
    ),
    Row(
        Permission,
        "invalidParameter.robotCode.auth send.forbidden bot.forbidden.sendMessage"
        " chatbotId.notAllow.sendOTO robot.oto.notExist only.groupAdmin.canAtAll",
        "API §12.7",
        en("Let the robot do this in DingTalk's console, then requeue the job."),
    ),
    Row(Held, "ip.not.match", "API §12.7", _ROBOT_IP),
    Row(
        Permanent,
        "Missing* Invalidbody invalidParameter.* miss.param.* receivers.exceed illegal.receivers"
        " keywords.not.match sign.not.match",
        "API §12.7",
    ),
    # Objects that do not exist
    Row(NotFound, "33012 40003 60121 60111 46004 60003 40009", "API §3.1, §5.3"),
    # 820006 is how the old dialect says that an instance is not there (or not in a state to be changed).
    Row(NotFound, "processInstanceNotExist processInstanceIdError 820006", "API §4.2, §5.3"),
    # Wrong requests
    Row(
        Permanent,
        "43001 43002 43003 43005 43008 43009 44002 47001",
        "API §5.2, §5.3",
        _BUG,
    ),
    Row(Permanent, "22 404 InvalidAction.NotFound", "API §5.2, §5.3: no such path", _PATH),
    Row(Permanent, "40000 400002 40035 40038 40031 40032 40066 40068 40069", "API §5.3"),
    Row(
        Permanent,
        "34016 45002 45003 45004 45005 45006 45007 45008 40008 41049 60022 40048 1430002",
        "API §5.3",
        en("Shorten or change the content, then enqueue it again."),
    ),
    Row(Permanent, "41029 41052", "API §2.1, §2.3", en("Name fewer recipients in one job.")),
    Row(Permanent, "40056 70003 70004 invalidAgentId 90017", "API §5.3", _CONFIGURATION),
    Row(
        Permanent,
        "processInstanceInvalidParameter",
        "API §4.2: the code has several meanings",
        _APPROVAL_PEOPLE,
        words="不存在 不在",
    ),
    Row(
        Permanent,
        "810003 810008 820001 830001 820005 850012 processCodeError formConverterError"
        " illegalComponent processGetFailed invalidParameter processInstanceInvalidParameter"
        " targetSelect*",
        "API §4, §5.3",
        _TEMPLATE,
    ),
)

SERVER_SIDE = Row(Transient, "", "API §5.3: HTTP 5xx", ambiguous=True)
PAGE = Row(Transient, "", "API §11.2: a page of what stands before DingTalk", ambiguous=True)
CUT_SHORT = Row(Transient, "", "API §5.2: an answer of HTTP 4xx that ends too early, or is garbled")
REFUSED = Row(Permanent, "", "API §5.3: a code that is not in the table")

BY_STATUS: dict[int, Row] = {
    401: Row(TokenInvalid, "", "API §5.3: HTTP 401 with code -"),
    403: Row(Permission, "", "API §5.3: HTTP 403 with code -"),
    404: Row(Permanent, "", "API §5.3: wrong path", _PATH),
    408: SERVER_SIDE,
    429: Row(Throttled, "", "API §5.3: HTTP 429"),
}


_TABLE: dict[str, Row] = {code: row for row in ROWS for code in row.codes.split() if not row.words}
_WORDED = [row for row in ROWS if row.words]
_PREFIXES: dict[str, Row] = {code[:-1]: row for code, row in _TABLE.items() if code.endswith("*")}
_CLASSES: dict[str, type[DingTalkError]] = {error.name: error for error in HINTS}


def hint_of(code: str) -> str:
    """Remedy for a code of DingTalk's, as far as the code alone allows one; empty where it does not."""
    for row in ROWS:
        if not row.words and code in row.codes.split():
            return row.hint or HINTS.get(row.error, "")
    return ""


class Classifier:
    """Classifies DingTalk's answers.

    Args:
        overrides: DingTalk's code → the name of a class, instead of what the table says.
        on_unknown: called once for each code that is not in the table: code and redacted message.

    Raises:
        ValueError: an override names no class.
    """

    def __init__(
        self,
        overrides: Mapping[str, str] | None = None,
        *,
        on_unknown: Callable[[str, str], object] | None = None,
    ) -> None:
        self._overrides = {code: _override(code, name) for code, name in (overrides or {}).items()}
        self._on_unknown = on_unknown
        self._unknown: set[str] = set()

    def read(
        self, api: Api, status: int, body: bytes, *, now: datetime | None = None
    ) -> dict[str, Any]:
        """The body of a success, parsed.

        Args:
            api: what was called.
            status: the HTTP status.
            body: the bytes of the answer; anything at all.
            now: DingTalk's time, with its zone; a pause with a named end is measured from it.

        Raises:
            DingTalkError: exactly one of its classes, and never anything else.
        """
        answer = parse(body)
        body_error = _error_in(answer, status) if answer is not None else None
        if answer is not None and body_error is not None:
            error = self._error(api, status, body_error, now or datetime.now(UTC))
            if api.verbatim and len(body) <= LONGEST_VERBATIM and writable(answer):
                error.verbatim = {"status": status, "body": redacted(answer)}
            raise error
        if (
            answer is not None
            and 200 <= status < 300
            and succeeded(answer, api)
            and (not api.verbatim or writable(answer))
        ):
            return answer
        if api.verbatim and api.dialect == "rest" and 200 <= status < 300 and not body.strip():
            return {}  # what an API without a result answers
        if api.verbatim and answer is None and 200 <= status < 300 and is_a_file(body):
            message = en(
                "the answer is a file or a list, and no JSON object: {:,} bytes", len(body)
            )
            raise Permanent(NO_OBJECT, message, hint=_FETCH_IT)
        body_error = _unreadable(status, body)
        garbled = answer is None or not {"code", "errcode"}.isdisjoint(answer)
        begins = body.lstrip()[:1] if garbled else b""
        row_of_api = _TABLE.get(f"{api.name}:{body_error.code}")
        bare = answer is not None and "errcode" not in answer
        if status >= 500 or (body_error.code == UNREADABLE and not bare):
            row_of_api = None  # it is no sign of a block, and may have come after the effect
        row = row_of_api or _TABLE.get(body_error.code) or _of_unreadable(status, begins)
        raise _raised_as(row, api, body_error, sick="way")

    def _error(self, api: Api, status: int, body: ErrorBody, now: datetime) -> DingTalkError:
        row = self._find_row(api, body)
        if row is None:
            row = _of_unknown(status, body.code)
            self._report(body)
        error = _raised_as(row, api, body, sick="answer")
        if isinstance(error, Throttled) and body.until is not None:
            pause = (body.until - now).total_seconds()
            longest = min(LONGEST_PAUSE, row.pause * STRETCH)
            error.pause = min(max(pause, SHORTEST_PAUSE), longest)
        return error

    def _find_row(self, api: Api, body: ErrorBody) -> Row | None:
        for key in body.keys:
            if row := self._overrides.get(key) or _TABLE.get(f"{api.name}:{key}"):
                return row
            if row := next((row for row in _WORDED if _has_words_of(row, key, body.message)), None):
                return row
            if row := _TABLE.get(key):
                return row
            for prefix, row in _PREFIXES.items():
                if key.startswith(prefix):
                    return row
        return None

    def _report(self, body: ErrorBody) -> None:
        is_reported = body.code == "-" or body.code in self._unknown
        if self._on_unknown is not None and not is_reported and len(self._unknown) < CODES_KEPT:
            self._unknown.add(body.code)
            self._on_unknown(body.code, body.message)


def _override(code: str, name: str) -> Row:
    if name not in _CLASSES:
        raise ValueError(
            en("codes.{}: {!r} is none of {}", code, name, ", ".join(sorted(_CLASSES)))
        )
    row = _TABLE.get(code)
    if row is not None and row.error is _CLASSES[name]:
        return row
    return Row(_CLASSES[name], code, "settings")


def _has_words_of(row: Row, key: str, message: str) -> bool:
    return key in row.codes.split() and any(word in message for word in row.words.split())


def _of_unknown(status: int, code: str) -> Row:
    """The row of an unknown code: by the HTTP status, or by a code that looks like one."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    number = integer(code)
    if status >= 500 or (number is not None and (number < 0 or 500 <= number < 600)):
        return SERVER_SIDE
    return REFUSED


def _of_unreadable(status: int, begins: bytes) -> Row:
    """The row of an answer that can't be read: by its HTTP status.

    `begins` is its first byte; empty for a JSON object without a code.
    """
    # Certainly not carried out, and the code that was cut off or garbled may say that it will pass.
    if begins == b"{" and status in {400, 403}:
        return CUT_SHORT
    # DingTalk answers with JSON whatever the status: a page, or a line of text, comes from something
    # before it.
    if begins not in {b"", b"{"} and status != 429:
        return PAGE
    if status in BY_STATUS:
        return BY_STATUS[status]
    return REFUSED if 400 <= status < 500 else SERVER_SIDE


def _raised_as(row: Row, api: Api, body: ErrorBody, *, sick: Sickness) -> DingTalkError:
    """The error of a row, with everything that its class can carry.

    `sick` is what the answer says of DingTalk's health if the row calls it transient.
    """
    error = Ambiguous if row.ambiguous and api.changes else row.error
    if api.name == "token" and (error is TokenInvalid or body.code == "40035"):
        # There is no token to renew: what is wrong is what the token is asked for with.
        error = Credentials
    elif api.name == "token" and error in {Permanent, Permission, NotFound}:
        # No job has a part in what is refused.
        error = Held
    details: dict[str, Any] = {
        "hint": (row.hint if error is row.error else "") or HINTS[error],
        "request_id": body.request_id,
    }
    if issubclass(error, Throttled):
        details |= {"pause": row.pause, "everything": row.everything, "alone": row.alone}
    elif row.error is Transient:
        # Every token request is the same: the job has no part in the answer.
        details |= {"sick": "way" if api.name == "token" else sick}
    return error(body.code, body.message, **details)


_WRAPPERS = {"88", "15"}
"""Codes of DingTalk's gateway that wrap the code of what is behind it."""

_SUBCODE = re.compile(r"subcode=([^,\]]+)")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_PAUSE_ENDS = re.compile(r"(?:限制|处罚)将在\s*(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*结束")
# Words of the guard before DingTalk (API §6): a proxy's "Access denied" is none of them.
_BAN_PAGE = re.compile(
    rb"punish|x5sec|_____tmd_____|status\W{1,5}1111\b|" + "频繁|封禁".encode(), re.IGNORECASE
)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


# `json.loads` would make a decoder at each call.
_JSON = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def parse(body: bytes) -> dict[str, Any] | None:
    """The JSON object in the body, if there is one.

    Half of a character becomes a question mark, and a number that JSON can't spell becomes None:
    neither could be passed on.
    """
    try:
        answer = _JSON.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
        if _HALF.search(body):
            # Texts that were cut have them; they can't be written as UTF-8.
            answer = json.loads(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None


def writable(answer: Mapping[str, Any]) -> bool:
    """Whether a job can have it as its result: it is not nested more deeply than JSON is written."""
    try:
        to_json(answer)
    except ValueError:
        return False
    return True


def succeeded(answer: Mapping[str, Any], api: Api) -> bool:
    """Whether an answer says that all went well.

    In the old dialect it must. In the new one an answer without `success` does, too, and one with
    false is none, except for callers that get DingTalk's own words; an unreadable value is none.
    """
    if api.dialect == "oapi":
        return integer(answer.get("errcode")) == 0
    success = answer.get("success")
    try:
        return success is None or lenient.boolean(success) or api.verbatim
    except lenient.Unreadable:
        return False


def request_id_of(answer: Mapping[str, Any]) -> str:
    """DingTalk's id of the call; empty if not given."""
    request_id = next(_texts(answer, "request_id", "requestid", "requestId", "RequestId"), "")
    return redact(request_id, 100)


def _error_in(answer: Mapping[str, Any], status: int) -> ErrorBody | None:
    """The error in a JSON object; None if it has none."""
    errcode = _text(answer.get("errcode"))
    if errcode and integer(errcode) == 0:
        return None
    request_id = request_id_of(answer)
    if not errcode and ("punish" in answer or _text(answer.get("status")) == "1111"):
        return ErrorBody(IP_BANNED, (IP_BANNED,), "calls from this address are refused", request_id)
    words = list(_texts(answer, "errmsg", "sub_msg", "message", "Message"))
    message = words[0] if words else ""
    if errcode:
        code, keys = _old_code(errcode, answer, message)
    else:
        code = next(_texts(answer, "code", "Code"), "")
        keys = (code,)
        # A success may have a field of that name; an error has a message beside it.
        if not code or (not message and 200 <= status < 300):
            return None
    until = _until(" ".join(words))
    return ErrorBody(redact(code, 100), keys, redact(message), request_id, until)


def _unreadable(status: int, body: bytes) -> ErrorBody:
    """The text for an answer without anything that can be understood.

    A page instead of JSON may be DingTalk's refusal of our address (API §6): then it says so.
    """
    if body.lstrip()[:1] == b"<" and status < 500 and _BAN_PAGE.search(body):
        message = en("HTTP {} with a page instead of JSON", status)
        return ErrorBody(IP_BANNED, (IP_BANNED,), message)
    code = REDIRECTED if 300 <= status < 400 else UNREADABLE
    return ErrorBody(code, message=en("HTTP {} without a readable answer", status))


def is_a_file(body: bytes) -> bool:
    """Whether a body is bytes that are no text, or a JSON list: no proxy answers so."""
    text = body.strip()
    if text[:1] in {b"<", b"{"}:
        return False
    return bool(_NO_TEXT.search(text)) or (text[:1], text[-1:]) == (b"[", b"]")


def integer(value: object) -> int | None:
    """The whole number that the value is or spells."""
    try:
        return lenient.integer(value)
    except lenient.Unreadable:
        return None


def _old_code(errcode: str, answer: Mapping[str, Any], message: str) -> tuple[str, tuple[str, ...]]:
    """The code of an answer of the old dialect and what to look up for it (API §5.2)."""
    sub_code = _text(answer.get("sub_code"))
    if errcode not in _WRAPPERS:
        return errcode, (errcode, sub_code)
    if not sub_code and (match := _SUBCODE.search(message)):
        sub_code = match[1].strip()
    if not sub_code:
        return errcode, (errcode,)
    return sub_code, (f"{errcode}/{sub_code}", sub_code, errcode)


def _texts(answer: Mapping[str, Any], *names: str) -> Iterator[str]:
    """The non-empty texts among these fields, in this order."""
    return (text for name in names if (text := _text(answer.get(name))))


def _text(value: object) -> str:
    """A string or whole number as text; empty for anything else."""
    if value is None:
        return ""
    try:
        is_number = isinstance(value, int | float)
        return str(lenient.integer(value)) if is_number else lenient.text(value).strip()
    except lenient.Unreadable:
        return ""


def _until(words: str) -> datetime | None:
    """When a limit ends, parsed from the message, in Beijing's time (API §6)."""
    match = _PAUSE_ENDS.search(words)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=BEIJING)
    except ValueError:
        return None
