"""What the admin API reports, as the types that server and client share."""

from typing import Any, TypedDict


class DuplicateReport(TypedDict):
    """What exists or arrived more than once.

    Attributes:
        approvals: instances beyond the first of an equal template, originator and form.
        messages_delivered: deliveries of a content to a person who had it that day already.
        messages_dropped: recipients that the same-content rule kept from a second delivery.
    """

    approvals: int
    messages_delivered: int
    messages_dropped: int


class AuditReport(TypedDict):
    """The sums over everything since the last reset.

    Attributes:
        calls: API path → verdict → number of calls.
        accepted: calls that were carried out, token calls aside.
        throttled: calls that were answered with a throttle.
        delivered: messages that arrived in an inbox.
        reached: people with anything in their inbox.
        dropped: reason → recipients that silently got nothing.
        token_fetches: tokens handed out, whether new or renewed.
        tokens_issued: new tokens among them.
        tokens_live: tokens that are good now.
        max_recipients_60s: the most recipients of one app's accepted calls in any 60 s.
        max_calls: API path → the most calls of one app in any interval as long as the limit's
            window, throttled ones included.
        approvals: approval instances.
        quota: ``organisation month`` → counted calls.
        faults: kind → calls that a scripted fault met.
    """

    calls: dict[str, dict[str, int]]
    accepted: int
    throttled: int
    delivered: int
    reached: int
    dropped: dict[str, int]
    duplicates: DuplicateReport
    token_fetches: int
    tokens_issued: int
    tokens_live: int
    max_recipients_60s: int
    max_calls: dict[str, int]
    approvals: int
    quota: dict[str, int]
    faults: dict[str, int]


class CallReport(TypedDict):
    """One call.

    Attributes:
        id: grows by one with each call.
        at: when it arrived, in Unix seconds of the sandbox's clock.
        monotonic: the same on a clock that never jumps.
        app: the app's key; empty where the token is unknown.
        verdict: ok, throttled, error, token, quota or fault (met before its effect).
        code: DingTalk's code of a refusal.
        fault: the kind of the scripted fault that met it, or empty. With verdict ok the call had
            its effect and the fault spoilt the answer.
        recipients: of a message call that was carried out.
        bytes: the length of the request's body.
    """

    id: int
    at: float
    monotonic: float
    app: str
    api: str
    verdict: str
    code: str
    fault: str
    recipients: int
    bytes: int


class EntryReport(TypedDict):
    """One recipient of one message. `reason` is empty where it arrived."""

    user: str
    at: float
    app: str
    channel: str
    message: dict[str, Any]
    task_id: int
    call_id: int
    reason: str
    recalled: bool


class InboxReport(TypedDict):
    """Everything that was sent to one person."""

    user: str
    delivered: list[EntryReport]
    dropped: list[EntryReport]


class ContentReport(TypedDict):
    """One content and how often it arrived; `repeated` counts second copies of a day."""

    message: dict[str, Any]
    delivered: int
    repeated: int


class InboxesReport(TypedDict):
    """All inboxes together. `contents` are the newest, up to the limit that was asked for."""

    delivered: int
    reached: int
    contents: list[ContentReport]


class TaskReport(TypedDict):
    """One person's decision on an approval.

    Attributes:
        status: RUNNING, COMPLETED or CANCELED.
        result: NONE, AGREE, REFUSE or REDIRECTED.
    """

    id: int
    user: str
    status: str
    result: str


class RecordReport(TypedDict):
    """Something that was done to an approval, such as ``ADD_REMARK``; `at` in Unix seconds."""

    user: str
    at: float
    type: str
    result: str
    remark: str


class ApprovalReport(TypedDict):
    """One approval instance. Times are in Unix seconds.

    Attributes:
        form: name and value as they were submitted, whatever the APIs tell.
        status: RUNNING, COMPLETED or TERMINATED.
        result: agree or refuse once it is COMPLETED; empty before.
        records: what was done to it, oldest first.
        finished_at: None while it is running.
    """

    id: str
    app: str
    call_id: int
    process_code: str
    originator: str
    department: int
    form: list[list[str]]
    approvers: list[str]
    cc: list[str]
    status: str
    result: str
    tasks: list[TaskReport]
    records: list[RecordReport]
    created_at: float
    finished_at: float | None


class AdvanceReport(TypedDict):
    """What an approval has come to; see `ApprovalReport`."""

    status: str
    result: str


class MediumReport(TypedDict):
    """One uploaded file; its size is in bytes."""

    id: str
    app: str
    kind: str
    name: str
    size: int


class OrganisationReport(TypedDict):
    """The whole directory; people with all fields, nothing hidden."""

    departments: list[dict[str, Any]]
    users: list[dict[str, Any]]


class AttemptReport(TypedDict):
    """One try to tell an app of an event.

    Attributes:
        at: when it began, in Unix seconds of the sandbox's clock.
        took: seconds until the answer, or until no more was waited for one.
        outcome: ``success``, or what went wrong.
        connection: of the stream that it went through; 0 for an HTTP push.
    """

    at: float
    took: float
    outcome: str
    connection: int


class DeliveryReport(TypedDict):
    """One event on its way to one app.

    Attributes:
        way: ``http`` or ``stream``.
        state: ``waiting``, ``delivered``, ``failed`` (no more is tried) or ``swallowed`` (a fault
            kept it from being tried at all).
    """

    app: str
    way: str
    state: str
    attempts: list[AttemptReport]


class EventReport(TypedDict):
    """One event; `at` is in Unix seconds of the sandbox's clock."""

    id: str
    type: str
    at: float
    fields: dict[str, Any]
    deliveries: list[DeliveryReport]


class EventsReport(TypedDict):
    """All events since the last reset.

    Attributes:
        happened: events; one that was sent again counts again.
        planned: those that are to happen by themselves, and have not yet.
        attempts: attempts to deliver one.
        waiting, delivered, failed, swallowed: deliveries by their state.
    """

    happened: int
    planned: int
    attempts: int
    waiting: int
    delivered: int
    failed: int
    swallowed: int


class ConnectionReport(TypedDict):
    """One connection of a stream.

    Attributes:
        state: ``open``, ``closing`` (it got a disconnect), ``dead`` (gone, and still fed) or
            ``closed``.
        client: what it calls itself.
        subscriptions: such as ``EVENT *``.
        faults: what is wrong with it.
        events, acknowledged: frames that were sent, and those that were answered, however.
        pings, pongs: the same of pings.
    """

    id: int
    app: str
    state: str
    opened_at: float
    client: str
    subscriptions: list[str]
    faults: list[str]
    events: int
    acknowledged: int
    pings: int
    pongs: int


class ClockReport(TypedDict):
    """The sandbox's clock: Unix seconds, and by how many it is ahead of the machine's."""

    now: float
    offset: float


class HealthReport(TypedDict):
    """That the sandbox runs, and the size of its organisation."""

    status: str
    users: int
    departments: int
