"""The one table from DingTalk's codes to the worker's reaction (API §5.3).

A row names its codes as DingTalk does, in either dialect; a trailing ``*`` stands for any rest, and
``88/…`` is a code that means something else inside that wrapper. `BY_STATUS` holds what an HTTP
status means where the code is unknown or missing. `error_body.py` reads the bodies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dingrelay_workers.dingtalk import error_body
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.error_body import IP_BANNED, ErrorBody
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
    Verbatim,
)
from dingrelay_workers.dingtalk.redact import redacted

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
_FETCH_IT = "A job carries JSON only: fetch files from DingTalk itself, with a token of the app."

CODES_KEPT = 1_000
"""Unknown codes that are remembered, so that a stream of nonsense can't fill the memory."""


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
    """

    error: type[DingTalkError]
    codes: str
    source: str
    hint: str = ""
    pause: float = SECOND
    everything: bool = False
    alone: bool = False
    ambiguous: bool = False


HINTS: dict[type[DingTalkError], str] = {
    Throttled: "Nothing: the fleet pauses this API by itself.",
    TokenInvalid: "Nothing: the token is fetched anew by itself.",
    Transient: "Nothing: it is tried again by itself.",
    Ambiguous: "Nothing: the worker settles what became of the call by itself.",
    Permanent: "Correct the job, then enqueue it again.",
    Held: "Mend it in DingTalk's console; the app's jobs go on by themselves then.",
    Credentials: "Check the app key and the app secret in DingTalk's console and in the settings;"
    " the app's jobs go on by themselves then.",
    Permission: "Grant the app this permission in DingTalk's console, then requeue the job.",
    NotFound: "Check the ids in the job; run a user-sync if they come from the directory.",
    QuotaExhausted: "Requeue the job when the quota has been renewed, or buy more calls.",
}

_CONFIGURATION = "Check the app's agent id and app key in the settings."
_BUG = "The request itself is malformed: report this with the code."
_TEMPLATE = "Compare process_code, form names and form values with the approval's template."
_SCOPE = "Add the person or department to the app's visible scope in DingTalk's console."

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
        "Spread the workers over more egress addresses, or lower the address's limit.",
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
    Row(Throttled, "410100 130101 660026", "API §2.8, KB:0717", pause=LONG),
    # Quotas
    Row(QuotaExhausted, "90020 Forbidden.AccessDenied.ApiCountLimitForOrg", "API §5.3, KB:1433"),
    Row(QuotaExhausted, "90030", "API §2.8"),
    Row(
        QuotaExhausted,
        "41045",
        "API §5.3: until tomorrow; a pause that long would hold every message of the app",
        "The day's three messages to everyone are used up: requeue the job tomorrow.",
    ),
    Row(
        QuotaExhausted,
        "integrated.qps.exceed",
        "API §5.3",
        "The day's calls of this API are used up: requeue the job tomorrow.",
    ),
    Row(
        Permanent,
        "143105 143205",
        "API §2.3, KB:0773",
        "The person has had the day's messages of this app: requeue the job tomorrow.",
    ),
    Row(
        Permanent,
        "143106 143206",
        "API §2.3, KB:0773",
        "The person already has this content today.",
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
        "API §5.2, KB:0552: bad input is told so too; §11.2",
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
        "Add the workers' egress address to the app's IP allow-list in DingTalk's console.",
    ),
    Row(Permission, "50002 50004", "API §3.1, §5.3", _SCOPE),
    Row(Held, "50003 50005", "API §5.3", "Enable the app in DingTalk's console."),
    Row(
        Permission,
        "41028 41044",
        "API §5.3",
        "The app may not send to these recipients; check its rights in DingTalk's console.",
    ),
    # What does not exist
    Row(NotFound, "33012 40003 60121 60111 46004 60003 40009", "API §3.1, §5.3"),
    # 820006 is how the old dialect says that an instance is not there (or not in a state to be changed).
    Row(NotFound, "processInstanceNotExist processInstanceIdError 820006", "API §4.2, §5.3"),
    # Wrong requests
    Row(
        Permanent,
        "43001 43002 43003 43005 43008 43009 44002 47001 22 404",
        "API §5.2, §5.3",
        _BUG,
    ),
    Row(Permanent, "40000 400002 40035 40038 40031 40032 40066 40068 40069", "API §5.3"),
    Row(
        Permanent,
        "34016 45002 45003 45004 45005 45006 45007 45008 40008 41049 60022 40048 1430002",
        "API §5.3",
        "Shorten or change the content, then enqueue it again.",
    ),
    Row(Permanent, "41029 41052", "API §2.1, §2.3", "Name fewer recipients in one job."),
    Row(Permanent, "40056 70003 70004 invalidAgentId 90017", "API §5.3", _CONFIGURATION),
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
CUT_SHORT = Row(Transient, "", "API §5.2: an answer of HTTP 4xx that ends too early")
REFUSED = Row(Permanent, "", "API §5.3: a code that is not in the table")

BY_STATUS: dict[int, Row] = {
    401: Row(TokenInvalid, "", "API §5.3: HTTP 401 with code -"),
    403: Row(Permission, "", "API §5.3: HTTP 403 with code -"),
    404: Row(Permanent, "", "API §5.3: wrong path", _BUG),
    408: SERVER_SIDE,
    429: Row(Throttled, "", "API §5.3: HTTP 429"),
}


_TABLE: dict[str, Row] = {code: row for row in ROWS for code in row.codes.split()}
_PREFIXES: dict[str, Row] = {code[:-1]: row for code, row in _TABLE.items() if code.endswith("*")}
_CLASSES: dict[str, type[DingTalkError]] = {error.name: error for error in HINTS}


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
        answer = error_body.parse(body)
        body_error = error_body.of_answer(answer, status) if answer is not None else None
        if answer is not None and body_error is not None:
            error = self._error(api, status, body_error, now or datetime.now(UTC))
            if api.verbatim and len(body) <= LONGEST_VERBATIM and error_body.tellable(answer):
                error.verbatim = Verbatim(status, redacted(answer))
            raise error
        if (
            answer is not None
            and 200 <= status < 300
            and error_body.succeeded(answer, api)
            and (not api.verbatim or error_body.tellable(answer))
        ):
            return answer
        if api.verbatim and api.dialect == "rest" and 200 <= status < 300 and not body.strip():
            return {}  # what an API without anything to tell answers
        if api.verbatim and answer is None and 200 <= status < 300 and error_body.is_a_file(body):
            message = f"the answer is a file or a list, and no JSON object: {len(body):,} bytes"
            raise Permanent(NO_OBJECT, message, hint=_FETCH_IT)
        body_error = error_body.of_unreadable(status, body)
        begins = body.lstrip()[:1] if answer is None else b""
        row = _TABLE.get(body_error.code) or _of_unreadable(status, begins)
        raise _raised_as(row, api, body_error, sick="way")

    def _error(self, api: Api, status: int, found: ErrorBody, now: datetime) -> DingTalkError:
        row = self._find(found.keys)
        if row is None:
            row = _of_unknown(status, found.code)
            self._report(found)
        error = _raised_as(row, api, found, sick="answer")
        if isinstance(error, Throttled) and found.until is not None:
            left = (found.until - now).total_seconds()
            longest = min(LONGEST_PAUSE, row.pause * STRETCH)
            error.pause = min(max(left, SHORTEST_PAUSE), longest)
        return error

    def _find(self, keys: tuple[str, ...]) -> Row | None:
        for key in keys:
            if row := self._overrides.get(key) or _TABLE.get(key):
                return row
            for prefix, row in _PREFIXES.items():
                if key.startswith(prefix):
                    return row
        return None

    def _report(self, found: ErrorBody) -> None:
        known = found.code == "-" or found.code in self._unknown
        if self._on_unknown is not None and not known and len(self._unknown) < CODES_KEPT:
            self._unknown.add(found.code)
            self._on_unknown(found.code, found.message)


def _override(code: str, name: str) -> Row:
    if name not in _CLASSES:
        raise ValueError(f"codes.{code}: {name!r} is none of {', '.join(sorted(_CLASSES))}")
    known = _TABLE.get(code)
    if known is not None and known.error is _CLASSES[name]:
        return known
    return Row(_CLASSES[name], code, "settings")


def _of_unknown(status: int, code: str) -> Row:
    """The row of an unknown code: by the HTTP status, or by a code that looks like one."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    number = error_body.integer(code)
    if status >= 500 or (number is not None and (number < 0 or 500 <= number < 600)):
        return SERVER_SIDE
    return REFUSED


def _of_unreadable(status: int, begins: bytes) -> Row:
    """The row of an answer that is not JSON: by its HTTP status.

    `begins` is its first byte.
    """
    # Certainly not carried out, and the code that was cut off may say that it will pass.
    if begins == b"{" and status in {400, 403}:
        return CUT_SHORT
    # DingTalk answers with JSON whatever the status: a page, or a line of text, comes from something
    # before it.
    if begins not in {b"", b"{"} and status != 429:
        return PAGE
    if status in BY_STATUS:
        return BY_STATUS[status]
    return REFUSED if 400 <= status < 500 else SERVER_SIDE


def _raised_as(row: Row, api: Api, found: ErrorBody, *, sick: Sickness) -> DingTalkError:
    """The error of a row, with everything that its class can carry.

    `sick` is what the answer says of DingTalk's health if the row calls it transient.
    """
    error = Ambiguous if row.ambiguous and api.changes else row.error
    if api.name == "token" and (error is TokenInvalid or found.code == "40035"):
        # There is no token to renew: what is wrong is what the token is asked for with.
        error = Credentials
    elif api.name == "token" and error in {Permanent, Permission, NotFound}:
        # No job has a part in what is refused.
        error = Held
    details: dict[str, Any] = {
        "hint": (row.hint if error is row.error else "") or HINTS[error],
        "request_id": found.request_id,
    }
    if issubclass(error, Throttled):
        details |= {"pause": row.pause, "everything": row.everything, "alone": row.alone}
    elif row.error is Transient:
        # Every token request is the same: the job has no part in the answer.
        details |= {"sick": "way" if api.name == "token" else sick}
    return error(found.code, found.message, **details)
