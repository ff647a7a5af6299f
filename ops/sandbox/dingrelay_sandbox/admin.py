"""A small synchronous client of the admin API, for tests, the demo and benchmarks."""

import http.client
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from dingrelay_sandbox.answers import Dialect

Row = dict[str, Any]
"""What is reported of one thing; `reports` names the fields."""
TIMEOUT_SECONDS = 60
OutageKind = Literal["503", "busy", "html", "hang", "close", "reset"]
"""What calls meet during an outage: HTTP 503, -1 or systemError, a gateway's page, silence, a
connection that is closed or reset without an answer."""
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

    def _row(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Row:
        row: Row = self.call(method, path, content)
        return row

    def _rows(self, path: str) -> list[Row]:
        rows: list[Row] = self.call("GET", path)
        return rows

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

    def _put_in_force(self, path: str, fault: Mapping[str, Any]) -> int:
        return int(self._row("POST", path, fault)["id"])

    # What there is.

    def reset(self) -> None:
        """Back to the state after the start, with nothing in audit and inboxes."""
        self.call("POST", "reset")

    def seed(self, *, users: int, departments: int, seed: int = 1) -> None:
        """Replace the organisation: ``u1`` … ``uN`` in departments 1 (the root) … M."""
        self.call("POST", "seed", {"users": users, "departments": departments, "seed": seed})

    def add_app(self, **app: Any) -> None:
        """Add or replace an app; `apps.App` has the fields."""
        self.call("POST", "apps", app)

    def change_secret(self, app_key: str, secret: str) -> None:
        """Give an app another secret; its tokens stay good."""
        self.call("PUT", f"apps/{_quoted(app_key)}/secret", {"secret": secret})

    def add_template(
        self, process_code: str, fields: Sequence[str | Mapping[str, Any]] = (), **template: Any
    ) -> None:
        """Add or replace an approval template; without fields it takes any form.

        Args:
            process_code: its code.
            fields: the controls: a label for a text field, or the fields of `templates.Control`,
                such as ``{"label": "类型", "type": "DDSelectField", "options": ["甲", "乙"],
                "required": True}``; a table has ``columns``.
            template: the other fields of `templates.Template`.
        """
        self.call("POST", "templates", {"process_code": process_code, "fields": fields, **template})

    def add_robot(
        self, token: str, secret: str = "", keywords: Sequence[str] = (), **more: str
    ) -> None:
        """Add or replace a webhook robot; with keywords its messages must hold one, `group` is where it posts."""
        robot = {"token": token, "secret": secret, "keywords": keywords, **more}
        self.call("POST", "robots", robot)

    def add_group(self, open_conversation_id: str) -> None:
        """Add a group in which the robots of apps may post."""
        self.call("PUT", f"groups/{_quoted(open_conversation_id)}", {})

    def put_user(self, userid: str, **changes: Any) -> None:
        """Add a person or change some fields; None empties a field."""
        self.call("PUT", f"users/{_quoted(userid)}", changes)

    def delete_user(self, userid: str) -> None:
        """Let a person leave."""
        self.call("DELETE", f"users/{_quoted(userid)}")

    def put_department(self, number: int, **changes: Any) -> None:
        """Add a department or change some fields."""
        self.call("PUT", f"departments/{number}", changes)

    def delete_department(self, number: int) -> None:
        """Dissolve a department."""
        self.call("DELETE", f"departments/{number}")

    def change_organisation(
        self, count: int, *, seed: int = 1, per_second: float | None = None
    ) -> None:
        """Let people and departments come, change and go at random.

        Args:
            count: how many changes; some are of several people.
            seed: the same makes the same changes of the same organisation.
            per_second: how many a second, in the background; None: all at once.
        """
        self.call("POST", "changes", {"count": count, "seed": seed, "per_second": per_second})

    # What people do to approvals.

    def advance(
        self,
        instance_id: str,
        result: Literal["agree", "refuse"] = "agree",
        *,
        remark: str = "",
        to_end: bool = False,
    ) -> Row:
        """Let those decide who are asked in the step that an approval is in, or in all that follow."""
        decision = {"result": result, "remark": remark, "to_end": to_end}
        path = f"approvals/{_quoted(instance_id)}/advance"
        return self._row("POST", path, decision)

    def act(
        self,
        instance_id: str,
        action: Literal["agree", "refuse", "redirect", "comment", "terminate"],
        user: str,
        *,
        to: str = "",
        remark: str = "",
    ) -> Row:
        """Let one person do something to an approval in the client.

        Args:
            instance_id: the approval.
            action: what; agree, refuse and redirect need an open task of the user.
            user: who does it.
            to: who the task is handed on to.
            remark: what is said; a comment needs it.
        """
        content = {"action": action, "user": user, "to": to, "remark": remark}
        path = f"approvals/{_quoted(instance_id)}/act"
        return self._row("POST", path, content)

    def delete_approval(self, instance_id: str) -> None:
        """Delete an approval, as an administrator may: DingTalk knows nothing of it any more."""
        self.call("DELETE", f"approvals/{_quoted(instance_id)}")

    # Limits, clock and tokens.

    def limits(self) -> Row:
        """The limits in force."""
        return self._row("GET", "limits")

    def set_limits(self, **limits: Any) -> Row:
        """Change some limits, such as ``calls="10/1s"``; see `limits.Limits`."""
        return self._row("POST", "limits", limits)

    def set_latency(self, min_ms: float, max_ms: float) -> None:
        """How long a call is on its way, each way."""
        self.call("POST", "latency", {"min_ms": min_ms, "max_ms": max_ms})

    def clock(self) -> Row:
        """The sandbox's clock."""
        return self._row("GET", "clock")

    def set_clock(self, offset: float) -> None:
        """Set the sandbox's clock ahead of the machine's by some seconds, or behind; 0 ends it.

        Create times, lists, days, months and the ``Date`` header follow it. Rates and minutes go
        on as before.
        """
        self.call("PUT", "clock", {"offset": offset})

    def tokens(self) -> list[str]:
        """Every token that was issued, for searching what must not hold one."""
        values: list[str] = self.call("GET", "tokens")
        return values

    def revoke_tokens(self, app_key: str | None = None) -> None:
        """Make tokens unknown (40014)."""
        self.call("POST", "tokens/revoke", {"app_key": app_key})

    def expire_tokens(self, app_key: str | None = None) -> None:
        """End the validity of tokens (42001)."""
        self.call("POST", "tokens/expire", {"app_key": app_key})

    # Faults.

    def add_fault(self, kind: str, **spec: Any) -> int:
        """Script a fault; `faults.FaultSpec` has the kinds and fields. Its id."""
        return self._put_in_force("faults", {"kind": kind, **spec})

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
        return self._put_in_force("faults", {**spec, "starts_in": starts_in, "seconds": seconds})

    def refuse_credentials(self, *, seconds: float | None = None, app: str | None = None) -> int:
        """Let DingTalk call key and secret wrong, for all apps or one; tokens stay good.

        `delete_fault` with the id that comes back ends it sooner. See also `change_secret`.
        """
        return self.add_fault("credentials_refused", seconds=seconds, app=app)

    def refuse_connections(self, seconds: float) -> None:
        """Let the kernel refuse connections, and cut those that are used, for at most 600 s.

        A client of the admin API that has no connection is refused, too: this one has.
        """
        self.call("POST", "door/shut", {"seconds": seconds})

    def accept_connections(self) -> None:
        """End `refuse_connections` before its time."""
        self.call("POST", "door/open")

    def fault(self, number: int) -> Row:
        """One fault by its id, in force or over: how many calls it has met, and what it was."""
        return self._row("GET", f"faults/{number}")

    def faults(self) -> list[Row]:
        """The faults in force, and how many calls each has met."""
        return self._rows("faults")

    def delete_fault(self, number: int) -> None:
        """End one fault."""
        self.call("DELETE", f"faults/{number}")

    def clear_faults(self) -> None:
        """End all faults."""
        self.call("DELETE", "faults")

    def add_event_fault(self, kind: str, **spec: Any) -> int:
        """Let something go wrong with events or streams, such as ``swallow`` or ``deaf``. Its id.

        `events.event_faults.EventFaultSpec` has the kinds and the fields, such as ``share=0.3``.
        """
        return self._put_in_force("event-faults", {"kind": kind, **spec})

    def event_faults(self) -> list[Row]:
        """The faults of events, and how many each has met."""
        return self._rows("event-faults")

    def delete_event_fault(self, number: int) -> None:
        """End one fault of events."""
        self.call("DELETE", f"event-faults/{number}")

    def clear_event_faults(self) -> None:
        """End all faults of events."""
        self.call("DELETE", "event-faults")

    # Events.

    def put_callback(self, url: str, **callback: Any) -> None:
        """Push an app's events to a URL, which is asked with ``check_url`` first unless ``check=False``.

        `events.callbacks.Callback` has the fields; ``token`` and ``aes_key`` are needed.

        Raises:
            SandboxError: the URL gave another answer than an encrypted ``success``.
        """
        self.call("PUT", "callbacks", {"url": url, **callback})

    def delete_callback(self, app_key: str = "sandbox-key") -> None:
        """Push nothing to an app any more."""
        self.call("DELETE", f"callbacks/{_quoted(app_key)}")

    def set_delivery(self, **times: Any) -> Row:
        """Change how long events take, such as ``scale=0.01``; see `limits.DeliveryTimes`."""
        return self._row("POST", "delivery", times)

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

    def fire_many(
        self, events: Sequence[Mapping[str, Any]], *, per_second: float | None = None
    ) -> list[str]:
        """Let many events happen; their ids.

        Args:
            events: each with ``type``, and, as `fire` has them, ``fields``, ``event_id``, ``app``,
                ``age``.
            per_second: how many a second, in the background; None: all at once.
        """
        wanted = {"events": events, "per_second": per_second}
        ids: list[str] = self._row("POST", "events", wanted)["ids"]
        return ids

    def resend(self, event_id: str) -> None:
        """Deliver an event again, as if it had just happened."""
        self.call("POST", f"events/{_quoted(event_id)}/resend")

    def event(self, event_id: str) -> Row:
        """One event, with every attempt to deliver it."""
        return self._row("GET", f"events/{_quoted(event_id)}")

    def events(
        self, *, since: float = 0, kind: str = "", state: str = "", limit: int = 100_000
    ) -> list[Row]:
        """The newest events since a Unix time of the sandbox's clock, oldest first.

        Args:
            since: Unix seconds.
            kind: only those of a type.
            state: only those with a delivery that is ``waiting``, ``delivered``, ``failed`` or
                ``swallowed``.
            limit: how many.
        """
        query = urlencode({"since": since, "type": kind, "state": state, "limit": limit})
        return self._rows(f"events?{query}")

    def events_summary(self) -> Row:
        """How many events happened, and how many deliveries are in which state."""
        return self._row("GET", "events/summary")

    def streams(self) -> list[Row]:
        """The connections of streams, those that are over included, oldest first."""
        return self._rows("streams")

    def act_on_streams(
        self,
        action: Literal["drop", "disconnect", "silence", "die"],
        *,
        app: str | None = None,
        connection: int | None = None,
        lossy: bool = False,
    ) -> int:
        """Let something happen to the connections that are open now, all or some; to how many it did.

        `events.stream_gateway.StreamAct` says what each action does.
        """
        wanted = {"action": action, "app": app, "connection": connection, "lossy": lossy}
        return int(self._row("POST", "streams/act", wanted)["met"])

    # What really happened.

    def audit(self) -> Row:
        """The sums since the last reset."""
        return self._row("GET", "audit")

    def calls(self, *, since: float = 0, api: str = "", limit: int = 100_000) -> list[Row]:
        """Single calls since a Unix time, on paths that start with `api`, oldest first."""
        query = urlencode({"since": since, "api": api, "limit": limit})
        return self._rows(f"calls?{query}")

    def inbox(self, userid: str) -> Row:
        """Everything that was sent to one person."""
        return self._row("GET", f"inbox/{_quoted(userid)}")

    def inboxes(self, *, limit: int = 10_000) -> Row:
        """All inboxes together."""
        return self._row("GET", f"inboxes?limit={limit}")

    def dropped(self, *, limit: int = 100_000) -> list[Row]:
        """Recipients that silently got nothing, oldest first."""
        return self._rows(f"dropped?limit={limit}")

    def approvals(self) -> list[Row]:
        """All approval instances, oldest first."""
        return self._rows("approvals")

    def media(self) -> list[Row]:
        """Every file that was uploaded."""
        return self._rows("media")

    def robot_posts(self) -> list[Row]:
        """What robots posted through webhooks and in groups."""
        return self._rows("robots")

    def organisation(self) -> Row:
        """The whole directory."""
        return self._row("GET", "organisation")

    def health(self) -> Row:
        """That the sandbox runs."""
        return self._row("GET", "health")


def _quoted(part: str) -> str:
    return quote(part, safe="")
