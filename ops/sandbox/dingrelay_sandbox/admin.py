"""A small synchronous client of the admin API, for tests, the demo and benchmarks."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode

from dingrelay_sandbox.admin_connection import SandboxError
from dingrelay_sandbox.answers import Dialect
from dingrelay_sandbox.events.admin import EventAdmin
from dingrelay_sandbox.report_types import (
    AdvanceReport,
    ApprovalReport,
    AuditReport,
    CallReport,
    ClockReport,
    EntryReport,
    HealthReport,
    InboxesReport,
    InboxReport,
    MediumReport,
    OrganisationReport,
)

__all__ = ["OUTAGES", "OutageKind", "SandboxAdmin", "SandboxError"]

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


class SandboxAdmin(EventAdmin):
    """The admin API of a sandbox. Safe to share between threads; keeps its connection.

    Args:
        base_url: such as ``http://127.0.0.1:8601``.
    """

    def reset(self) -> None:
        """Back to the state after the start, with nothing in audit and inboxes."""
        self.call("POST", "reset")

    def seed(self, *, users: int, departments: int, seed: int = 1) -> None:
        """Replace the organisation: ``u1`` … ``uN`` in departments 1 (the root) … M."""
        self.call("POST", "seed", {"users": users, "departments": departments, "seed": seed})

    def add_app(
        self,
        *,
        app_key: str,
        app_secret: str,
        agent_id: str,
        organisation: str = "sandbox-corp",
        departments: Sequence[int] = (1,),
        users: Sequence[str] = (),
        hidden_fields: Sequence[str] = (),
        visible_departments: Sequence[int] | None = None,
        visible_users: Sequence[str] | None = None,
    ) -> None:
        """Add or replace an app; `departments` and `users` are its scope.

        `visible_departments` and `visible_users` are who sees it, where that is not the same.
        """
        app = {
            "app_key": app_key,
            "app_secret": app_secret,
            "agent_id": agent_id,
            "organisation": organisation,
            "departments": list(departments),
            "users": list(users),
            "hidden_fields": list(hidden_fields),
            "visible_departments": visible_departments,
            "visible_users": visible_users,
        }
        self.call("POST", "apps", app)

    def add_template(
        self,
        process_code: str,
        fields: Sequence[str | Mapping[str, Any]] = (),
        *,
        name: str = "审批",
        approvers: Sequence[str] = (),
        target_select: Sequence[str] = (),
        revocable: bool = True,
    ) -> None:
        """Add or replace an approval template; without fields it takes any form.

        Args:
            process_code: its code.
            fields: the controls: a label for a text field, or the fields of `templates.Control`,
                such as ``{"label": "类型", "type": "DDSelectField", "options": ["甲", "乙"],
                "required": True}``; a table has ``columns``.
            name: what people call it.
            approvers: who must agree, one after the other; empty for the organisation's first.
            target_select: keys of the steps whose approvers the originator must choose.
            revocable: whether its approvals may be withdrawn.
        """
        template = {
            "process_code": process_code,
            "fields": list(fields),
            "name": name,
            "approvers": list(approvers),
            "target_select": list(target_select),
            "revocable": revocable,
        }
        self.call("POST", "templates", template)

    def advance(
        self,
        instance_id: str,
        result: Literal["agree", "refuse"] = "agree",
        *,
        remark: str = "",
        to_end: bool = False,
    ) -> AdvanceReport:
        """Let those decide who are asked in the step that an approval is in.

        Args:
            instance_id: the approval, which must be running.
            result: what they decide; one refusal ends it.
            remark: what they say.
            to_end: go on until it has ended.
        """
        decision = {"result": result, "remark": remark, "to_end": to_end}
        path = f"approvals/{quote(instance_id, safe='')}/advance"
        return cast("AdvanceReport", self.call("POST", path, decision))

    def act(
        self,
        instance_id: str,
        action: Literal["agree", "refuse", "redirect", "comment", "terminate"],
        user: str,
        *,
        to: str = "",
        remark: str = "",
    ) -> AdvanceReport:
        """Let one person do something to an approval in the client.

        Args:
            instance_id: the approval.
            action: what; whoever agrees, refuses or redirects must have an open task.
            user: who does it.
            to: who the task is handed on to.
            remark: what is said; a comment needs it.
        """
        content = {"action": action, "user": user, "to": to, "remark": remark}
        path = f"approvals/{quote(instance_id, safe='')}/act"
        return cast("AdvanceReport", self.call("POST", path, content))

    def delete_approval(self, instance_id: str) -> None:
        """Delete an approval, as an administrator may: DingTalk knows nothing of it any more."""
        self.call("DELETE", f"approvals/{quote(instance_id, safe='')}")

    def add_robot(self, token: str, secret: str = "", keywords: Sequence[str] = ()) -> None:
        """Add or replace a webhook robot; with keywords its messages must hold one."""
        robot = {"token": token, "secret": secret, "keywords": list(keywords)}
        self.call("POST", "robots", robot)

    def add_group(self, open_conversation_id: str) -> None:
        """Add a group in which the robots of apps may post."""
        self.call("PUT", f"groups/{quote(open_conversation_id, safe='')}", {})

    def limits(self) -> dict[str, Any]:
        """The limits in force."""
        return cast("dict[str, Any]", self.call("GET", "limits"))

    def set_limits(self, **limits: Any) -> dict[str, Any]:
        """Change some limits, such as ``calls="10/1s"``; see `limits.Limits`."""
        return cast("dict[str, Any]", self.call("POST", "limits", limits))

    def set_latency(self, min_ms: float, max_ms: float) -> None:
        """How long a call is on its way, each way."""
        self.call("POST", "latency", {"min_ms": min_ms, "max_ms": max_ms})

    def add_fault(self, kind: str, **spec: Any) -> int:
        """Script a fault; `faults.FaultSpec` has the kinds and fields. Its id."""
        return int(
            cast("dict[str, int]", self.call("POST", "faults", {"kind": kind, **spec}))["id"]
        )

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
            kind: what the calls meet. Where no connection is to come about at all, see
                `refuse_connections`.
            api: the APIs that are out, by the start of their path; ``*`` for all;
                `faults.TOKEN_APIS` for the fetching of tokens alone.
            dialect: only the old host (oapi) or the new one (rest).
            app: only for the app with this key.
            starts_in: seconds until it begins.
            seconds: how long it lasts; None: until `delete_fault` or `clear_faults`.
            effect: whether the calls are carried out all the same.

        Returns:
            The id of the fault; `fault` tells how many calls it has met.
        """
        spec: dict[str, Any] = dict(OUTAGES[kind])
        if kind == "reset":
            spec["kind"] = "reset_after" if effect else "reset_before"
        else:
            spec["effect"] = effect
        starts = api if isinstance(api, str) else list(api)
        spec |= {"api": starts, "dialect": dialect, "app": app}
        return self.add_fault(spec.pop("kind"), starts_in=starts_in, seconds=seconds, **spec)

    def refuse_credentials(self, *, seconds: float | None = None, app: str | None = None) -> int:
        """Let DingTalk call key and secret wrong, for all apps or one; tokens stay good.

        `delete_fault` with the id that comes back ends it sooner. See also `change_secret`.
        """
        return self.add_fault("credentials_refused", seconds=seconds, app=app)

    def change_secret(self, app_key: str, secret: str) -> None:
        """Give an app another secret; its tokens stay good."""
        self.call("PUT", f"apps/{quote(app_key, safe='')}/secret", {"secret": secret})

    def refuse_connections(self, seconds: float) -> None:
        """Let the kernel refuse connections, and cut those that are used, for at most 600 s.

        A client of the admin API that has no connection is refused, too: this one has.
        """
        self.call("POST", "door/shut", {"seconds": seconds})

    def accept_connections(self) -> None:
        """End `refuse_connections` before its time."""
        self.call("POST", "door/open")

    def clock(self) -> ClockReport:
        """The sandbox's clock."""
        return cast("ClockReport", self.call("GET", "clock"))

    def set_clock(self, offset: float) -> None:
        """Set the sandbox's clock ahead of the machine's by some seconds, or behind; 0 ends it.

        Create times, lists, days, months and the ``Date`` header follow it. Rates and minutes go
        on as before.
        """
        self.call("PUT", "clock", {"offset": offset})

    def fault(self, number: int) -> dict[str, Any]:
        """One fault by its id, in force or over: how many calls it has met, and what it was."""
        return cast("dict[str, Any]", self.call("GET", f"faults/{number}"))

    def faults(self) -> list[dict[str, Any]]:
        """The faults in force, and how many calls each has met."""
        return cast("list[dict[str, Any]]", self.call("GET", "faults"))

    def delete_fault(self, number: int) -> None:
        """End one fault."""
        self.call("DELETE", f"faults/{number}")

    def clear_faults(self) -> None:
        """End all faults."""
        self.call("DELETE", "faults")

    def tokens(self) -> list[str]:
        """Every token that was issued, for searching what must not hold one."""
        return cast("list[str]", self.call("GET", "tokens"))

    def revoke_tokens(self, app_key: str | None = None) -> None:
        """Make tokens unknown (40014)."""
        self.call("POST", "tokens/revoke", {"app_key": app_key})

    def expire_tokens(self, app_key: str | None = None) -> None:
        """End the validity of tokens (42001)."""
        self.call("POST", "tokens/expire", {"app_key": app_key})

    def put_user(self, userid: str, **changes: Any) -> None:
        """Add a person or change some fields; None empties a field."""
        self.call("PUT", f"users/{quote(userid, safe='')}", changes)

    def delete_user(self, userid: str) -> None:
        """Let a person leave."""
        self.call("DELETE", f"users/{quote(userid, safe='')}")

    def put_department(self, number: int, **changes: Any) -> None:
        """Add a department or change some fields."""
        self.call("PUT", f"departments/{number}", changes)

    def delete_department(self, number: int) -> None:
        """Dissolve a department."""
        self.call("DELETE", f"departments/{number}")

    def audit(self) -> AuditReport:
        """The sums since the last reset."""
        return cast("AuditReport", self.call("GET", "audit"))

    def calls(self, *, since: float = 0, api: str = "", limit: int = 100_000) -> list[CallReport]:
        """Single calls since a Unix time, on paths that start with `api`, oldest first."""
        query = urlencode({"since": since, "api": api, "limit": limit})
        return cast("list[CallReport]", self.call("GET", f"calls?{query}"))

    def inbox(self, userid: str) -> InboxReport:
        """Everything that was sent to one person."""
        return cast("InboxReport", self.call("GET", f"inbox/{quote(userid, safe='')}"))

    def inboxes(self, *, limit: int = 10_000) -> InboxesReport:
        """All inboxes together."""
        return cast("InboxesReport", self.call("GET", f"inboxes?limit={limit}"))

    def dropped(self, *, limit: int = 100_000) -> list[EntryReport]:
        """Recipients that silently got nothing, oldest first."""
        return cast("list[EntryReport]", self.call("GET", f"dropped?limit={limit}"))

    def approvals(self) -> list[ApprovalReport]:
        """All approval instances, oldest first."""
        return cast("list[ApprovalReport]", self.call("GET", "approvals"))

    def media(self) -> list[MediumReport]:
        """Every file that was uploaded."""
        return cast("list[MediumReport]", self.call("GET", "media"))

    def robot_posts(self) -> list[dict[str, Any]]:
        """What robots posted through webhooks and in groups."""
        return cast("list[dict[str, Any]]", self.call("GET", "robots"))

    def organisation(self) -> OrganisationReport:
        """The whole directory."""
        return cast("OrganisationReport", self.call("GET", "organisation"))

    def health(self) -> HealthReport:
        """That the sandbox runs."""
        return cast("HealthReport", self.call("GET", "health"))
