"""Calls into a sandbox without a socket, on a clock that the test turns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dingrelay_sandbox.apis.api import dialect_of
from dingrelay_sandbox.bodies import Upload
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState, Start
from dingrelay_sandbox.verdict import Outcome, respond

NOON = 1_795_492_800.0
"""2026-11-24 12:00:00 in Beijing."""
SEND = "/topapi/message/corpconversation/asyncsend_v2"


@dataclass
class Reply:
    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The code in whichever place the dialect has it."""
        body = self.body
        return str(body.get("sub_code") or body.get("code") or body.get("errcode", ""))


class Caller:
    """An app that calls; fetches its token by itself."""

    def __init__(self, state: SandboxState | None = None, *, users: int = 20) -> None:
        self.now = NOON
        self.state = state or SandboxState(
            Start(users=users, departments=5), clock=lambda: self.now
        )
        self.log_in()

    def log_in(self, key: str = "sandbox-key", secret: str = "sandbox-secret") -> None:
        """Fetch an app's token and go on as that app."""
        reply = self.get("/gettoken", appkey=key, appsecret=secret)
        self.token = str(reply.body["access_token"])

    def outcome(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        payload: dict[str, Any] | None = None,
        header_token: str = "",
        content_type: str = "application/json",
        remote: str = "127.0.0.1",
        upload: Upload | None = None,
    ) -> Outcome:
        call = Call(
            method=method,
            path=path,
            dialect=dialect_of(path),
            query=query or {},
            header_token=header_token,
            content_type=content_type,
            payload=payload,
            size=0,
            remote=remote,
            upload=upload,
        )
        self.state.last_call += 1
        call.arrive(self.state.last_call, at=self.state.clock(), monotonic=self.now)
        return respond(self.state, call)

    def get(self, path: str, *, token: str | None = None, **query: str) -> Reply:
        header = ""
        if path.startswith("/v1.0/"):
            header = self.token if token is None else token
        elif path != "/gettoken":
            query["access_token"] = self.token if token is None else token
        return _reply(self.outcome("GET", path, query=query, header_token=header))

    def post(
        self,
        path: str,
        payload: dict[str, Any] | None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        remote: str = "127.0.0.1",
    ) -> Reply:
        value = self.token if token is None else token
        rest = path.startswith("/v1.0/")
        outcome = self.outcome(
            "POST",
            path,
            query={} if rest or not value else {"access_token": value},
            header_token=value if rest else "",
            payload=payload,
            content_type=content_type,
            remote=remote,
        )
        return _reply(outcome)

    def send(self, text: str, *users: str, **fields: Any) -> Reply:
        payload = {
            "agent_id": 1000001,
            "msg": {"msgtype": "text", "text": {"content": text}},
            **({"userid_list": ",".join(users)} if users else {}),
            **fields,
        }
        return self.post(SEND, payload)

    def create(self, *steps: tuple[str, list[str]], **fields: Any) -> str:
        """The id of a new approval with these steps, or the code with which it is refused."""
        payload = {
            "processCode": "PROC-ANY",
            "originatorUserId": "u1",
            "deptId": -1,
            "formComponentValues": [{"name": "a", "value": "1"}],
            "approvers": [{"actionType": action, "userIds": users} for action, users in steps],
            **fields,
        }
        reply = self.post("/v1.0/workflow/processInstances", payload)
        return str(reply.body.get("instanceId") or reply.code)

    def limit(self, **patch: Any) -> None:
        self.state.limiter.limits = self.state.limits.changed(patch)

    def reasons(self, userid: str) -> list[str]:
        """Outcome of each message to a person; empty where it arrived."""
        return [entry.reason for entry in self.state.sends.inboxes.get(userid, ())]


def _reply(outcome: Outcome) -> Reply:
    return Reply(outcome.answer.status, json.loads(outcome.answer.body))
