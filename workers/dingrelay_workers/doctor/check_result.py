"""The result of a check, and advice that several give."""

from dataclasses import dataclass
from typing import Literal

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
