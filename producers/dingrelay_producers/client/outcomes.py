"""Outcomes of a message for one person, in words: one table for every door."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from dingrelay_tasks.sentence import Sentence, en

TONES = ("bad", "doubt", "wait", "good")
"""The worst first."""


class Meaning(NamedTuple):
    """A meaning in words for people.

    Attributes:
        tone: of `TONES`: how it is coloured.
        words: what it means.
        remedy: what to do; empty for nothing.
    """

    tone: str
    words: str
    remedy: str = ""


class OutcomeWords(NamedTuple):
    """An outcome in words.

    Attributes:
        tone: how it is coloured.
        result: whether the person has the message, in a word or two.
        reason: why; empty where there is no more to say.
        remedy: what to do; empty for nothing.
    """

    tone: Literal["good", "wait", "doubt", "bad"]
    result: Sentence
    reason: Sentence | Literal[""] = ""
    remedy: Sentence | Literal[""] = ""

    @property
    def sentence(self) -> Sentence:
        """The result with its reason."""
        return en("{}: {}", self.result, self.reason) if self.reason else self.result


_NOT_SENT, _NOT_RECEIVED, _SENT = en("not sent"), en("not received"), en("sent")
_LOOK_AT_JOB = en("Look at the job: it says why.")
_LOOK_UP = en("Look the person up: the userid may be wrong, or they have left.")
_CORRECT_ROW = en("Correct the row in the file, and send it to these people alone.")

OUTCOMES: Mapping[str, OutcomeWords] = {
    "accepted": OutcomeWords("good", _SENT),
    "unverified": OutcomeWords(
        "doubt", _SENT, en("they could not be looked up: no sync yet, or DingTalk did not answer")
    ),
    "duplicate": OutcomeWords(
        "bad",
        _NOT_SENT,
        en("had this content already that day"),
        en("Change the text, or send it tomorrow."),
    ),
    "daily_cap": OutcomeWords(
        "bad",
        _NOT_SENT,
        en("had had the day's messages"),
        en("Send it tomorrow, or from another app."),
    ),
    "unknown_user": OutcomeWords(
        "bad", _NOT_SENT, en("DingTalk knows no person with this userid"), _LOOK_UP
    ),
    "out_of_scope": OutcomeWords(
        "bad",
        _NOT_SENT,
        en("outside the app's visible range"),
        en("An administrator of DingTalk can widen the app's range."),
    ),
    "unresolved": OutcomeWords("bad", _NOT_SENT, en("no person has this address"), _LOOK_UP),
    "duplicate_departments": OutcomeWords(
        "bad", _NOT_SENT, en("this department was sent it today")
    ),
    "not_sent": OutcomeWords("bad", _NOT_SENT, "", _LOOK_AT_JOB),
    "cancelled": OutcomeWords("bad", _NOT_SENT, en("cancelled")),
    "invalid": OutcomeWords(
        "bad", _NOT_RECEIVED, en("DingTalk knows no person with this userid"), _LOOK_UP
    ),
    "forbidden": OutcomeWords(
        "bad", _NOT_RECEIVED, en("DingTalk did not deliver it"), _LOOK_AT_JOB
    ),
    "failed": OutcomeWords(
        "bad", _NOT_RECEIVED, en("the delivery failed at DingTalk"), _LOOK_AT_JOB
    ),
    "unknown": OutcomeWords(
        "doubt",
        en("unknown whether it was sent"),
        "",
        en("Ask the person, or say at the job whether it arrived."),
    ),
    "kept": OutcomeWords("good", en("received, and not recalled")),
    "malformed": OutcomeWords(
        "bad",
        en("left out"),
        en("this row reaches no one"),
        _CORRECT_ROW,
    ),
    "unmatched": OutcomeWords(
        "bad", en("left out"), en("this row does not match one person"), _CORRECT_ROW
    ),
    "pending": OutcomeWords("wait", en("not sent yet")),
}
"""Outcome → its words."""

NOT_REACHED = tuple(name for name, words in OUTCOMES.items() if words.tone == "bad")
"""Outcomes of people who did not get the message."""
