"""What outcomes and states mean, in a sentence for people, and what can be done."""

from collections.abc import Mapping
from typing import NamedTuple

from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en
from dingrelay_workers.limiter.breakers import BreakerState

TONES = ("bad", "doubt", "wait", "good")
"""The worst first."""


class Meaning(NamedTuple):
    """A word of ours, explained.

    Attributes:
        tone: ``good``, ``wait``, ``doubt`` or ``bad``: how it is coloured.
        words: what it means.
        remedy: what to do; empty for nothing.
    """

    tone: str
    words: str
    remedy: str = ""


OUTCOMES: Mapping[str, Meaning] = {
    "accepted": Meaning("good", en("got it")),
    "unverified": Meaning(
        "doubt", en("sent; whether DingTalk knows this person could not be checked")
    ),
    "duplicate": Meaning(
        "bad",
        en("not sent: got the same text today already, and DingTalk drops the second one"),
        en("Change the text, or send it tomorrow."),
    ),
    "daily_cap": Meaning(
        "bad",
        en("not sent: got as many messages of this app today as DingTalk delivers"),
        en("Send it tomorrow, or from another app."),
    ),
    "unknown_user": Meaning(
        "bad",
        en("not sent: DingTalk knows no such person"),
        en("Look the person up: the userid may be wrong, or they have left."),
    ),
    "out_of_scope": Meaning(
        "bad",
        en("not sent: the person is outside of what the app may reach"),
        en("An administrator of DingTalk can widen the app's range."),
    ),
    "invalid": Meaning(
        "bad", en("not sent: this is not a userid"), en("Look the person up by name.")
    ),
    "forbidden": Meaning(
        "bad",
        en("not sent: DingTalk refused it"),
        en("Look at the job: it holds DingTalk's answer."),
    ),
    "not_sent": Meaning("bad", en("not sent"), en("Look at the job: it says why.")),
    "unknown": Meaning(
        "doubt",
        en("may have got it: DingTalk's answer was lost"),
        en("Ask the person, or say at the job whether it arrived."),
    ),
    "failed": Meaning("bad", en("not sent: the call failed"), en("Look at the job: it says why.")),
    "kept": Meaning("good", en("got it, and keeps it: it was not taken back")),
    "cancelled": Meaning("bad", en("not sent: it was cancelled")),
    "pending": Meaning("wait", en("not sent yet")),
}

STATES: Mapping[str, Meaning] = {
    "queued": Meaning("wait", en("waits for its turn")),
    "running": Meaning("wait", en("is being carried out")),
    "snoozed": Meaning("wait", en("waits"), en("For a limit, or the end of an outage.")),
    "retrying": Meaning("wait", en("is tried again")),
    "done": Meaning("good", en("done")),
    "dead": Meaning("bad", en("failed for good")),
    "unknown": Meaning(
        "doubt", en("may have happened"), en("DingTalk's answer was lost; a person must say.")
    ),
    "duplicate": Meaning(
        "bad", en("not sent again"), en("All of its people have this text today already.")
    ),
    "cancelled": Meaning("bad", en("cancelled")),
    "expired": Meaning("bad", en("too late"), en("Its time was over before its turn.")),
}
OF_CAMPAIGN: Mapping[str, Meaning] = {
    "draft": Meaning("wait", en("a draft")),
    "running": Meaning("wait", en("is being sent")),
    "paused": Meaning("doubt", en("paused")),
    "done": Meaning("good", en("done")),
    "cancelled": Meaning("bad", en("cancelled")),
}
OF_APPROVAL: Mapping[str, Meaning] = {
    "running": Meaning("wait", en("waits for a decision")),
    "approved": Meaning("good", en("approved")),
    "refused": Meaning("bad", en("refused")),
    "terminated": Meaning("doubt", en("withdrawn")),
    "deleted": Meaning("doubt", en("deleted in DingTalk")),
}
OF_TASK: Mapping[str, Meaning] = {
    "running": Meaning("wait", en("has to decide")),
    "agreed": Meaning("good", en("agreed")),
    "refused": Meaning("bad", en("refused")),
    "redirected": Meaning("doubt", en("passed on to another person")),
    "cancelled": Meaning("doubt", en("not asked any more")),
}
OF_ENDPOINT: Mapping[str, Meaning] = {
    "enabled": Meaning("good", en("is delivered to")),
    "paused": Meaning("doubt", en("paused")),
    "disabled": Meaning("bad", en("switched off after failures")),
}
OF_KEY: Mapping[str, Meaning] = {
    "live": Meaning("good", en("is taken")),
    "expired": Meaning("doubt", en("has expired")),
    "revoked": Meaning("bad", en("is revoked")),
}
FAILING = Meaning(
    "doubt",
    en("The endpoint accepts nothing at present; no notice is lost."),
    en("It is tried again by itself. Look at its last answer below, and mend it."),
)
OF_DELIVERY: Mapping[str, Meaning] = {
    "pending": Meaning("wait", en("waits, or is tried again")),
    "delivered": Meaning("good", en("accepted by the endpoint")),
    "dead": Meaning(
        "bad",
        en("given up"),
        en("It was refused for days: mend the endpoint, then deliver it again."),
    ),
    "skipped": Meaning("doubt", en("dropped when it was resumed")),
    "test": Meaning("wait", en("a test")),
    "tested": Meaning("good", en("a test")),
}

START = en("Start one: dingrelay worker.")


def outage(breaker: BreakerState) -> Meaning:
    """An API or a host that is out, or an app that is held."""
    kind, _, name = breaker.scope.partition(":")
    since, retry = local(breaker.opened_at)[:16], local(breaker.next_probe)[11:19]
    if kind == "hold":
        words = en("The app {} is held since {}: {}", name, since, breaker.reason)
        return Meaning(
            "bad",
            words,
            en(
                "Correct the app's key, secret, permissions or IP list; its jobs go on by themselves then."
            ),
        )
    words = en(
        "DingTalk has not answered {} as it should since {}: {}",
        breaker.name,
        since,
        breaker.reason,
    )
    return Meaning(
        "bad",
        words,
        en("Nothing needs to be done: it is tried again at {}, and no job is lost.", retry),
    )


def meaning(table: Mapping[str, Meaning], word: str) -> Meaning:
    """The meaning of a word; one that a newer release has stands for itself."""
    return table.get(word, Meaning("doubt", word))
