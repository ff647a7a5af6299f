"""The result of a check; and why a server can't be used, in words that name the cause, where its error says so."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dingrelay_producers.tls_trouble import tls_trouble
from dingrelay_tasks.sentence import en

Verdict = Literal["ok", "warning", "failed", "unreachable"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the doctor's.

    Attributes:
        check: what was looked at, such as ``redis persistence``.
        verdict: ``unreachable`` is a failure of the network's or of a service that is down.
        found: how it is, without a secret.
        advice: what to do; empty where there is nothing to do.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


TLS_ADVICE = en(
    "check DINGRELAY_TLS_CA, DINGRELAY_TLS_CERT, and that the URL names the host as its certificate"
)

UNKNOWN_HOST = ("Name or service not known", "failed to resolve host", "name resolution")
CAUSES = (
    (
        ("max number of clients reached",),
        en("it takes no more connections: maxclients is reached"),
        en("raise maxclients, or close what else is connected: CLIENT LIST shows it"),
    ),
    (
        ("DB index is out of range", "invalid DB index"),
        en("it has no database of this number"),
        en("correct the number at the end of the URL; most servers have 0 to 15, a cluster has 0"),
    ),
    (
        ("unknown command 'SENTINEL'", "unknown command `SENTINEL`"),
        en("it answers, and is no Sentinel"),
        en(
            "name the Sentinels, whose port is mostly 26379; the URL of a Redis begins with redis://"
        ),
    ),
    (
        ("file is not a database",),
        en("the file is no SQLite database"),
        en("name another file in DINGRELAY_DATABASE_URL; none is made over this one"),
    ),
    (
        ("unable to open database file",),
        en("the file can't be opened"),
        en("make its folder, and let this user write into it"),
    ),
    (
        ("SQLSTATE 53100", "disk is full", "No space left on device", "SQLITE_IOERR_SHMSIZE"),
        en("its disk is full"),
        en("free space there; jobs that need it go on by themselves"),
    ),
    (
        ("SQLSTATE 53300", "too many clients already", "remaining connection slots"),
        en("it takes no more connections: max_connections is reached"),
        en("raise max_connections, or put PgBouncer before it"),
    ),
    (
        ("SQLSTATE 28P01", "authentication failed"),
        en("it refuses the password"),
        en("correct user and password in DINGRELAY_DATABASE_URL"),
    ),
    (
        ('FATAL:  database "',),
        en("it has no database of this name"),
        en("create it, or correct DINGRELAY_DATABASE_URL"),
    ),
    (
        ("SQLSTATE 25006", "read-only transaction"),
        en("it takes no writes: it is a replica, or read-only"),
        en("name the primary in DINGRELAY_DATABASE_URL"),
    ),
)
"""Codes of SQL and of SQLite and words of an error, the cause, and what to do. Of a full disk SQLite can tell
"disk I/O error" alone where it makes the file that its connections share (SQLITE_IOERR_SHMSIZE)."""


def cause(
    check: str, error: BaseException, variable: str, *, unshown: bool = False
) -> CheckResult | None:
    """The result of a check by its error; None if that says nothing of the cause.

    Args:
        check: what was looked at.
        error: of the connection, or of the server.
        variable: that names the server.
        unshown: as in `tls_trouble`.
    """
    if trouble := tls_trouble(error, unshown=unshown):
        return CheckResult(check, "failed", trouble, TLS_ADVICE)
    texts = " ".join(_texts_of(error))
    for words, finding, advice in CAUSES:
        if any(word in texts for word in words):
            return CheckResult(check, "failed", finding, advice)
    if any(word in texts for word in UNKNOWN_HOST):
        finding = en("the name of its host is unknown here")
        return CheckResult(check, "unreachable", finding, en("correct {}, or the DNS", variable))
    return None


def _texts_of(error: BaseException | None) -> Iterator[str]:
    """Texts of an error and its causes, with codes of SQL and of SQLite; none of it is shown."""
    while error is not None:
        yield UNKNOWN_HOST[0] if isinstance(error, socket.gaierror) else str(error)
        yield f"SQLSTATE {getattr(error, 'sqlstate', None)}"
        yield str(getattr(error, "sqlite_errorname", None))
        error = error.__cause__ or error.__context__
