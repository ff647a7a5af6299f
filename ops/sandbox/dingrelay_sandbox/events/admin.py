"""The part of the admin API's client that is about events and streams."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode

from dingrelay_sandbox.admin_connection import AdminConnection
from dingrelay_sandbox.report_types import ConnectionReport, EventReport, EventsReport


class EventAdmin(AdminConnection):
    """Who is told of events, what happens, and what goes wrong on the way."""

    def put_callback(
        self,
        url: str,
        *,
        token: str,
        aes_key: str,
        app_key: str = "sandbox-key",
        owner_key: str = "",
        events: Sequence[str] = (),
        check: bool = True,
        **options: Any,
    ) -> None:
        """Let an app's events be pushed to a URL, which is asked with ``check_url`` first.

        Args:
            url: where the callback is.
            token: 3 to 32 letters and digits.
            aes_key: 43 characters.
            app_key: the app, which must exist.
            owner_key: what each text ends with; the app's key where it is empty.
            events: types, or narrower choices; empty for all. See `events.callbacks.Callback`.
            check: whether the URL is asked.
            options: the further fields of `Callback`, ``casing`` and ``parameters``.

        Raises:
            SandboxError: the URL gave another answer than an encrypted ``success``.
        """
        callback = {
            "url": url,
            "token": token,
            "aes_key": aes_key,
            "app_key": app_key,
            "owner_key": owner_key,
            "events": list(events),
            "check": check,
            **options,
        }
        self.call("PUT", "callbacks", callback)

    def delete_callback(self, app_key: str = "sandbox-key") -> None:
        """Push nothing to an app any more."""
        self.call("DELETE", f"callbacks/{quote(app_key, safe='')}")

    def set_delivery(self, **times: Any) -> dict[str, Any]:
        """Change how long events take, such as ``scale=0.01``; see `events.DeliveryTimes`."""
        return cast("dict[str, Any]", self.call("POST", "delivery", times))

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
            app: the only app that is told.
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
        wanted = {"events": list(events), "per_second": per_second}
        answer = cast("dict[str, list[str]]", self.call("POST", "events", wanted))
        return answer["ids"]

    def resend(self, event_id: str) -> None:
        """Tell of an event again, as if it had not been told yet."""
        self.call("POST", f"events/{quote(event_id, safe='')}/resend")

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

    def event(self, event_id: str) -> EventReport:
        """One event, with every try to tell somebody of it."""
        return cast("EventReport", self.call("GET", f"events/{quote(event_id, safe='')}"))

    def events(
        self, *, since: float = 0, kind: str = "", state: str = "", limit: int = 100_000
    ) -> list[EventReport]:
        """The newest events since a Unix time, oldest first.

        Args:
            since: Unix seconds of the sandbox's clock.
            kind: only those of a type.
            state: only those with a delivery that is ``waiting``, ``delivered``, ``failed`` or
                ``swallowed``.
            limit: how many.
        """
        query = urlencode({"since": since, "type": kind, "state": state, "limit": limit})
        return cast("list[EventReport]", self.call("GET", f"events?{query}"))

    def events_summary(self) -> EventsReport:
        """How many events happened, and how many deliveries are in which state."""
        return cast("EventsReport", self.call("GET", "events/summary"))

    def add_event_fault(self, kind: str, **spec: Any) -> int:
        """Let something go wrong with events or streams, such as ``swallow`` or ``deaf``. Its id.

        `events.event_faults.EventFaultSpec` has the kinds and the fields, such as ``share=0.3``.
        """
        wanted = {"kind": kind, **spec}
        return int(cast("dict[str, int]", self.call("POST", "event-faults", wanted))["id"])

    def event_faults(self) -> list[dict[str, Any]]:
        """The faults of events, and how many each has met."""
        return cast("list[dict[str, Any]]", self.call("GET", "event-faults"))

    def delete_event_fault(self, number: int) -> None:
        """End one fault of events."""
        self.call("DELETE", f"event-faults/{number}")

    def clear_event_faults(self) -> None:
        """End all faults of events."""
        self.call("DELETE", "event-faults")

    def streams(self) -> list[ConnectionReport]:
        """The connections of streams, those that are over included, oldest first."""
        return cast("list[ConnectionReport]", self.call("GET", "streams"))

    def act_on_streams(
        self,
        action: Literal["drop", "disconnect", "silence", "die"],
        *,
        app: str | None = None,
        connection: int | None = None,
        lossy: bool = False,
    ) -> int:
        """Let something happen to the connections that are open now; to how many it did.

        Args:
            action: ``drop`` ends them without a word; ``disconnect`` says so, sends no event any
                more and ends them later; ``silence`` leaves TCP alone, and nothing else; ``die``
                drops them and feeds them on for a while.
            app: only those of this app.
            connection: only this one, by its ``id``.
            lossy: whether what a dead connection was fed is never told again.
        """
        wanted = {"action": action, "app": app, "connection": connection, "lossy": lossy}
        return int(cast("dict[str, int]", self.call("POST", "streams/act", wanted))["met"])
