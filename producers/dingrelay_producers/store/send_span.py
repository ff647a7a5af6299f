"""The spans of accepting jobs, to whose traces the jobs belong."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from opentelemetry.trace import Span

from dingrelay_producers.store.record import Draft
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_tasks.kinds import TASK_PREFIX


def sending(
    drafts: Collection[Draft], *, parent: str | None = None, links: Sequence[str] = ()
) -> AbstractContextManager[Span]:
    """Around the acceptance of jobs: calls of `record.enqueue` inside belong to the span.

    Args:
        drafts: the jobs.
        parent: as for `spans.span`.
        links: as for `spans.span`.
    """
    kinds = {draft.kind for draft in drafts}
    name = TASK_PREFIX + kinds.pop() if len(kinds) == 1 else "dingrelay"
    return spans.span(
        f"send {name}",
        "PRODUCER",
        parent=parent,
        links=links,
        attributes=lambda: _attributes(drafts),
    )


def in_a_trace_of_its_own(draft: Draft, cause: str) -> Draft:
    """A job of many that one thing brought about: its trace links that of the cause.

    Thousands of jobs in one trace can't be looked at. Where no spans are made it belongs to the cause's.
    """
    if not spans.active():
        return draft._replace(trace=cause)
    with sending([draft], parent="", links=[cause]):
        return draft._replace(trace=spans.current())


def _attributes(drafts: Collection[Draft]) -> Attributes:
    """Attributes of a span of jobs: OpenTelemetry's conventions for messaging, and ours."""
    attributes: dict[str, str | int] = {
        "messaging.system": "dingrelay",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    for attribute, values in (
        ("messaging.destination.name", {draft.queue for draft in drafts}),
        ("dingrelay.kind", {draft.kind for draft in drafts}),
        ("dingrelay.app", {draft.app for draft in drafts}),
        ("dingrelay.lane", {draft.lane for draft in drafts}),
    ):
        if len(values) == 1:
            attributes[attribute] = values.pop()
    if len(drafts) == 1:
        attributes["messaging.message.id"] = next(iter(drafts)).id
    else:
        attributes["messaging.batch.message_count"] = len(drafts)
    return attributes
