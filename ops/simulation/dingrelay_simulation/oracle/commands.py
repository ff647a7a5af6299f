"""Commands: a job that was cancelled while it waited for its call does not make it."""

from collections.abc import Iterator

from dingrelay_simulation.operations import Command, Request
from dingrelay_simulation.oracle.evidence import BEFORE, Effect, Evidence, Violation

CANCELLED, MARKED = "True", "False"
"""Answers to a command that was carried out, and to one that was noted for a job that runs."""
READ = "burst"
"""Name of the operation whose jobs only read. Their calls write no intent, which is where a job that runs meets the mark."""


def check_cancels(evidence: Evidence) -> Iterator[Violation]:
    """No call leaves after the command, unless an earlier one may have been carried out."""
    requests = {request.job: request for request in evidence.single_requests}
    requeued = evidence.commanded("requeue")
    for command in evidence.requests.commands:
        request = requests.get(command.job)
        if command.verb != "cancel" or command.answer not in {CANCELLED, MARKED}:
            continue
        if request is None or command.job in requeued:
            continue
        if request.name == READ and command.answer == MARKED:
            continue
        for attempt in evidence.attempts_by_tag.get(request.tag, ()):
            if _leaves_later(evidence, command, request, attempt):
                text = f"{command.job} was cancelled at {command.at:.2f} and called at {attempt.left:.2f}"
                yield Violation("cancelled", text, command.job)


def _leaves_later(evidence: Evidence, command: Command, request: Request, attempt: Effect) -> bool:
    """Whether a call was noted after the command, and no earlier one may have been carried out."""
    at = command.at
    if attempt.left <= at + BEFORE or evidence.forgotten(at, at):
        return False
    # Noted before the command, it may leave once its worker goes on, or hears of the note.
    if evidence.kept_from_redis(attempt.worker, at - BEFORE, at + BEFORE):
        return False
    return not evidence.in_doubt(request.tag, request.at, at)
