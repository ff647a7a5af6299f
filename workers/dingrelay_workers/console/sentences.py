"""Outcomes and states in sentences for people, with their remedies."""

from collections.abc import Mapping
from typing import NamedTuple

from dingrelay_producers.client import outcomes
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.language import translated
from dingrelay_producers.store.record import CANCELLED_TOO_LATE
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.limiter.breakers import BreakerState

OUTCOMES: Mapping[str, Meaning] = {
    outcome: Meaning(words.tone, words.sentence, words.remedy)
    for outcome, words in outcomes.OUTCOMES.items()
} | {"waiting": Meaning("wait", en("waits for its turn"))}

STATES: Mapping[str, Meaning] = {
    "queued": Meaning("wait", en("waits for its turn")),
    "running": Meaning("wait", en("is being carried out")),
    "snoozed": Meaning("wait", en("waits"), en("For a limit, or the end of an outage or a pause.")),
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

WAITS: Mapping[str, Meaning] = {
    "api": Meaning("wait", en("waits until DingTalk answers again")),
    "host": Meaning("wait", en("waits until DingTalk answers again")),
    "app": Meaning("bad", en("waits: DingTalk refuses its app")),
}
"""Cause for which an open job waits, but for a pause → the same for people."""

KINDS: Mapping[str, str] = {
    "message-send": en("work notification"),
    "message-recall": en("taking a work notification back"),
    "robot-message": en("message of a robot"),
    "robot-recall": en("taking a robot's message back"),
    "approval-create": en("new approval"),
    "approval-decide": en("decision on an approval"),
    "approval-look": en("reading an approval"),
    "api-call": en("call of an API"),
    "user-sync": en("sync of the directory"),
}
"""Kind of job → words. One that is not here stands for itself."""


ACTIONS: Mapping[str, str] = {
    "create": en("make"),
    "start": en("start sending"),
    "pause": en("pause"),
    "resume": en("resume"),
    "campaign.resume": en("go on"),
    "cancel": en("cancel"),
    "delete": en("delete"),
    "replace": en("replace by a changed one"),
    "test": en("send to testers"),
    "recall": en("take back"),
    "confirm": en("ask who has read it"),
    "submit": en("submit for approval"),
    "approve": en("approve"),
    "reject": en("reject"),
    "write": en("begin a draft"),
    "save": en("make a draft again"),
    "keep": en("keep as a template"),
    "attach": en("upload a file"),
    "freeze": en("make ready"),
    "copy": en("copy into a draft"),
    "requeue": en("requeue"),
    "discard": en("discard"),
    "postpone": en("postpone"),
    "resolve": en("decide what became of it"),
    "rotate": en("give a new secret"),
    "grant": en("grant"),
    "revoke": en("revoke"),
    "disown": en("take from who had the userid"),
    "add": en("add"),
    "remove": en("remove"),
    "export": en("export"),
    "erase": en("erase"),
    "terminate": en("withdraw in DingTalk"),
    "agree": en("agree in DingTalk"),
    "refuse": en("refuse in DingTalk"),
    "comment": en("comment in DingTalk"),
    "end": en("end"),
    "end_all": en("end all"),
}
"""Action, or kind of object and action → words, on buttons and in the audit. One that is not here stands for itself."""


def action_words(kind: str, action: str) -> str:
    """The words for an action, for a button or a line."""
    words = translated(ACTIONS.get(f"{kind}.{action}") or ACTIONS.get(action, action))
    return words[:1].upper() + words[1:]


class FieldProblem(NamedTuple):
    """The fault of a value that a form was refused for.

    Attributes:
        label: of its field.
        words: what is wrong.
        page: path of the page with the field, such as another step; "" for the present page.
    """

    label: str
    words: str
    page: str = ""


def problems_in(error: ContractError, labels: Mapping[str, str]) -> dict[str, FieldProblem]:
    """Field → what is wrong with it. One of a list, such as ``scopes.2``, is that of the list."""
    parts = [(part.field.partition(".")[0], part.problem) for part in (error, *error.others)]
    return {field: FieldProblem(labels.get(field, field), problem) for field, problem in parts}


ADVICE: Mapping[str, str] = {
    CANCELLED_TOO_LATE["hint"]: en(
        "Look in DingTalk whether it happened, and say on the job's page what became of it; that needs the role operate."
    ),
}
"""Hint that names a command → what to do here instead."""

START = en("Start one: dingrelay worker.")


def outage(breaker: BreakerState) -> Meaning:
    """An API or a host that is out, or an app that is held."""
    kind, _, name = breaker.scope.partition(":")
    since, retry = spoken(breaker.opened_at), spoken(breaker.next_probe, seconds=True)
    if kind == "hold":
        words = en("The app {} is held since {}: {}", name, since, breaker.reason)
        return Meaning(
            "bad",
            words,
            en(
                "Correct the app's key, secret, permissions or IP list: it is tried again at {}, and its jobs go on by themselves then.",
                retry,
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


def people_by_outcome(recipients: Mapping[str, str]) -> list[tuple[Meaning, list[str]]]:
    """The meaning of each outcome, and the users who have it.

    Args:
        recipients: user → outcome.
    """
    users: dict[str, list[str]] = {}
    for user, outcome in recipients.items():
        users.setdefault(outcome, []).append(user)
    return [(meaning(OUTCOMES, outcome), named) for outcome, named in users.items()]


def meaning(table: Mapping[str, Meaning], word: str) -> Meaning:
    """The meaning of a word; one that a newer release has stands for itself."""
    return table.get(word, Meaning("doubt", word))
