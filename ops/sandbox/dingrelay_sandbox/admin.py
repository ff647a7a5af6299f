"""A small synchronous client of the admin API, for tests, the demo and benchmarks."""

import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from dingrelay_sandbox.answers import Dialect

Row = dict[str, Any]
"""One object of a report; `reports` names the fields."""
Rows = list[Row]
Answer = TypeVar("Answer")
TIMEOUT_SECONDS = 60
OutageKind = Literal["503", "busy", "html", "hang", "close", "reset"]
"""Answers to calls during an outage: HTTP 503, -1 or systemError, a gateway's page, silence, a connection that is
closed or reset without an answer."""
OUTAGES: Mapping[OutageKind, Mapping[str, Any]] = {
    "503": {"kind": "http", "status": 503},
    "busy": {"kind": "error"},
    "html": {"kind": "html", "status": 502},
    "hang": {"kind": "hang"},
    "close": {"kind": "lost_answer"},
    "reset": {"kind": "reset_before"},
}


class SandboxError(RuntimeError):
    """The sandbox refused an admin call; the text says why."""


class Verb(Generic[Answer]):
    """A method that is one call of the admin API, which checks what it is given: see `admin_api`.

    Args:
        at: method and path; what the path names by braces is given first.
        names: of what else may be given without its name.
        key: the field of the answer that is returned; empty for all of it.
    """

    def __init__(self, at: str, *names: str, key: str = "") -> None:
        self._method, self._path = at.split(" ")
        self._names, self._key = names, key

    def __get__(self, admin: "SandboxAdmin", owner: object) -> Callable[..., Answer]:
        return partial(self._call, admin)

    def _call(self, admin: "SandboxAdmin", *given: Any, **fields: Any) -> Any:
        count = self._path.count("{}")
        path = self._path.format(*(quote(str(each), safe="") for each in given[:count]))
        rest = given[count:]
        fields |= zip(self._names[: len(rest)], rest, strict=True)
        if self._method == "GET":
            answer = admin.call("GET", f"{path}?{urlencode(fields)}")
        else:
            answer = admin.call(self._method, path, fields)
        return answer[self._key] if self._key else answer


class SandboxAdmin:
    """The admin API of a sandbox. Safe to share between threads; keeps its connection.

    Args:
        base_url: such as ``http://127.0.0.1:8601``.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_SECONDS
        )
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection; another call opens it again."""
        with self._lock:
            self._connection.close()

    def call(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """The answer of one call.

        Raises:
            SandboxError: it is a refusal.
        """
        body = None if content is None else json.dumps(content).encode()
        with self._lock:
            status, text = self._exchange(method, f"/_sandbox/{path}", body)
        answer = json.loads(text)
        if status != 200:
            raise SandboxError(answer.get("error", f"HTTP {status}"))
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # The server closes a connection that was idle for long; such a call never began.
            self._connection.close()
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        return response.status, response.read()

    # What there is.

    reset = Verb[None]("POST reset")
    """Back to the state after the start, with nothing in audit and inboxes."""
    seed = Verb[None]("POST seed")
    """Replace the organisation: ``u1`` … ``uN`` in departments 1 (the root) … M, by `users`, `departments`, `seed`."""
    add_app = Verb[None]("POST apps")
    """Add or replace an app; `apps.App` has the fields."""
    change_secret = Verb[None]("PUT apps/{}/secret", "secret")
    """Give an app another secret; its tokens stay good."""
    add_template = Verb[None]("POST templates", "process_code", "fields")
    """Add or replace an approval template; without fields it takes any form.

    The fields are its controls: a label for a text field, or the fields of `templates.Control`, such as
    ``{"label": "类型", "type": "DDSelectField", "options": ["甲", "乙"], "required": True}``; a table has
    ``columns``. What else there is is in `templates.Template`.
    """
    add_robot = Verb[None]("POST robots", "token", "secret", "keywords")
    """Add or replace a webhook robot; with keywords its messages must hold one, `group` is where it posts."""
    add_group = Verb[None]("PUT groups/{}")
    """Add a group in which the robots of apps may post, by its open conversation id."""
    put_user = Verb[None]("PUT users/{}")
    """Add a person or change some fields; None empties a field."""
    delete_user = Verb[None]("DELETE users/{}")
    """Let a person leave."""
    put_department = Verb[None]("PUT departments/{}")
    """Add a department or change some fields."""
    delete_department = Verb[None]("DELETE departments/{}")
    """Dissolve a department."""

    # What people do to approvals.

    advance = Verb[Row]("POST approvals/{}/advance", "result")
    """Let those decide who are asked in the step that an approval is in, or, with `to_end`, in all that follow.

    The result is ``agree`` or ``refuse``; there may be a `remark`.
    """
    act = Verb[Row]("POST approvals/{}/act", "action", "user")
    """Let one person do something to an approval in the client.

    The action is ``agree``, ``refuse`` or ``redirect``, which need an open task of the user, ``comment``, which
    needs a `remark`, or ``terminate``. A task is handed on to the person `to`.
    """
    delete_approval = Verb[None]("DELETE approvals/{}")
    """Delete an approval, as an administrator may: DingTalk knows nothing of it any more."""

    # Limits, clock and tokens.

    limits = Verb[Row]("GET limits")
    """The limits in force."""
    set_limits = Verb[Row]("POST limits")
    """Change some limits, such as ``calls="10/1s"``; see `limits.Limits`."""
    set_latency = Verb[None]("POST latency", "min_ms", "max_ms")
    """How long a call is on its way, each way."""
    clock = Verb[Row]("GET clock")
    """The sandbox's clock."""
    set_clock = Verb[Row]("PUT clock", "offset")
    """Set the sandbox's clock ahead of the machine's by some seconds, or behind; 0 ends it.

    Create times, lists, days, months and the ``Date`` header follow it. Rates and minutes go on as before.
    """
    tokens = Verb[list[str]]("GET tokens")
    """Every token that was issued, for searching what must not hold one."""
    revoke_tokens = Verb[Row]("POST tokens/revoke", "app_key")
    """Make tokens of an app, or all, unknown (40014)."""
    expire_tokens = Verb[Row]("POST tokens/expire", "app_key")
    """End the validity of tokens of an app, or all (42001)."""

    # Faults.

    add_fault = Verb[int]("POST faults", "kind", key="id")
    """Script a fault; `faults.FaultSpec` has the kinds and fields. Its id."""

    def outage(
        self,
        kind: OutageKind = "503",
        *,
        api: str | Sequence[str] = "*",
        dialect: Dialect | None = None,
        app: str | None = None,
        starts_in: float = 0,
        seconds: float | None = None,
        effect: bool = False,
    ) -> int:
        """Let calls fail; several outages one after the other make a story.

        Args:
            kind: what the calls meet. To refuse all connections, see `refuse_connections`.
            api: the APIs that are out, by the start of their path; ``*`` for all;
                `faults.TOKEN_APIS` for the fetching of tokens alone.
            dialect: only the old host (oapi) or the new one (rest).
            app: only for the app with this key.
            starts_in: seconds until it begins.
            seconds: how long it lasts; None: until `delete_fault` or `clear_faults`.
            effect: whether the calls are carried out all the same.

        Returns:
            The id of the fault; `fault` says how many calls it has met.
        """
        spec: Row = {**OUTAGES[kind], "effect": effect}
        if kind == "reset":
            spec = {"kind": "reset_after" if effect else "reset_before"}
        spec |= {"api": api, "dialect": dialect, "app": app}
        return self.add_fault(**spec, starts_in=starts_in, seconds=seconds)

    def refuse_credentials(self, *, seconds: float | None = None, app: str | None = None) -> int:
        """Let DingTalk call key and secret wrong, for all apps or one; tokens stay good.

        `delete_fault` with the id that comes back ends it sooner. See also `change_secret`.
        """
        return self.add_fault("credentials_refused", seconds=seconds, app=app)

    refuse_connections = Verb[None]("POST door/shut", "seconds")
    """Let the kernel refuse connections, and cut those that are used, for at most 600 s.

    A client of the admin API that has no connection is refused, too: this one has.
    """
    accept_connections = Verb[None]("POST door/open")
    """End `refuse_connections` before its time."""
    fault = Verb[Row]("GET faults/{}")
    """One fault by its id, in force or over: how many calls it has met, and what it was."""
    faults = Verb[Rows]("GET faults")
    """The faults in force, and how many calls each has met."""
    delete_fault = Verb[Row]("DELETE faults/{}")
    """End one fault."""
    clear_faults = Verb[Row]("DELETE faults")
    """End all faults."""
    add_event_fault = Verb[int]("POST event-faults", "kind", key="id")
    """Let something go wrong with events or streams, such as ``swallow`` or ``deaf``. Its id.

    `events.event_faults.EventFaultSpec` has the kinds and the fields, such as ``share=0.3``.
    """
    event_faults = Verb[Rows]("GET event-faults")
    """The faults of events, and how many each has met."""
    delete_event_fault = Verb[Row]("DELETE event-faults/{}")
    """End one fault of events."""
    clear_event_faults = Verb[Row]("DELETE event-faults")
    """End all faults of events."""

    # Events.

    put_callback = Verb[None]("PUT callbacks", "url")
    """Push an app's events to a URL, which is asked with ``check_url`` first unless ``check=False``.

    `events.callbacks.Callback` has the fields; ``token`` and ``aes_key`` are needed. `SandboxError` where the URL
    gives another answer than an encrypted ``success``.
    """

    def delete_callback(self, app_key: str = "sandbox-key") -> None:
        """Push nothing to an app any more."""
        self.call("DELETE", f"callbacks/{quote(app_key, safe='')}")

    set_delivery = Verb[Row]("POST delivery")
    """Change how long events take, such as ``scale=0.01``; see `limits.DeliveryTimes`."""

    def fire(
        self,
        kind: str,
        *,
        event_id: str | None = None,
        app: str | None = None,
        age: float = 0,
        **fields: Any,
    ) -> str:
        """Let an event happen, of any type and with any fields; its id.

        Args:
            kind: its type.
            event_id: one that was there before, or another; made up where it is None.
            app: the only app that gets it.
            age: seconds since it happened.
            fields: its own; one that is named as a common one replaces it.
        """
        event = {"type": kind, "fields": fields, "app": app, "age": age}
        (made,) = self.fire_many([event if event_id is None else {**event, "event_id": event_id}])
        return made

    fire_many = Verb[list[str]]("POST events", "events", key="ids")
    """Let many events happen; their ids.

    Each has ``type``, and, as `fire` has them, ``fields``, ``event_id``, ``app``, ``age``. `per_second` is how many
    a second, in the background; without it all happen at once.
    """
    resend = Verb[Row]("POST events/{}/resend")
    """Deliver an event again, as if it had just happened."""
    event = Verb[Row]("GET events/{}")
    """One event, with every attempt to deliver it."""
    events = Verb[Rows]("GET events")
    """The newest events, oldest first.

    Those `since` a Unix time of the sandbox's clock, of a `kind`, with a delivery in a `state` (``waiting``,
    ``delivered``, ``failed`` or ``swallowed``), and no more than `limit`.
    """
    events_summary = Verb[Row]("GET events/summary")
    """How many events happened, and how many deliveries are in which state."""
    streams = Verb[Rows]("GET streams")
    """The connections of streams, those that are over included, oldest first."""
    act_on_streams = Verb[int]("POST streams/act", "action", key="met")
    """Let something happen to the connections that are open now, all or some; to how many it did.

    `events.stream_gateway.StreamAct` says what each action does, and what chooses connections.
    """

    # What really happened.

    audit = Verb[Row]("GET audit")
    """The sums since the last reset."""
    calls = Verb[Rows]("GET calls")
    """Single calls, oldest first: those `since` a Unix time, on paths that start with `api`, at most `limit`."""
    inbox = Verb[Row]("GET inbox/{}")
    """Everything that was sent to one person."""
    inboxes = Verb[Row]("GET inboxes")
    """All inboxes together, with the newest `limit` contents."""
    dropped = Verb[Rows]("GET dropped")
    """Recipients that silently got nothing, oldest first, at most `limit`."""
    approvals = Verb[Rows]("GET approvals")
    """All approval instances, oldest first."""
    media = Verb[Rows]("GET media")
    """Every file that was uploaded."""
    robot_posts = Verb[Rows]("GET robots")
    """Posts of robots through webhooks and in groups."""
    organisation = Verb[Row]("GET organisation")
    """The whole directory."""
    health = Verb[Row]("GET health")
    """Health of the sandbox."""
