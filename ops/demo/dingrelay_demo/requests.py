"""Requests of the demo: noted before any worker has them, and compared with the truth at DingTalk at the end."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from dingrelay_producers import CampaignRef, JobRef, JobStatus
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import MessageSend, RobotMessage
from dingrelay_tasks.contract import Contract, Lane
from dingrelay_tasks.message import payload


def alerts(count: int, group: str) -> list[RobotMessage]:
    """So many alerts of twenty hosts, merged where they would come too fast."""
    return [
        RobotMessage.parse(
            {
                "to": {"group": group},
                "message": {
                    "msgtype": "markdown",
                    "markdown": {
                        "title": f"磁盘 host-{number % 20}",
                        "text": f"已用 {80 + number % 20} %",
                    },
                },
                "digest": {"every": "5s", "key": f"host-{number % 20}"},
            }
        )
        for number in range(count)
    ]


class GuideScript:
    """The guide's script.

    Args:
        base_url: instead of ``https://oapi.dingtalk.com``.
        key: as appkey and appsecret.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url
        app_key, _, secret = key.partition(".")
        self._token: dict[str, str] = {}
        token = self._call("/gettoken", appkey=app_key, appsecret=secret)["access_token"]
        self._token = {"access_token": token}

    def send(self, users: str, message: Mapping[str, Any]) -> Any:
        """Step 4 of the guide."""
        body = {"agent_id": "1000001", "userid_list": users, "msg": message}
        return self._call("/topapi/message/corpconversation/asyncsend_v2", body)

    def departments(self) -> list[dict[str, Any]]:
        """Step 5 of the guide."""
        found: list[dict[str, Any]] = self._call("/department/list")["department"]
        return found

    def approval(self, process_code: str, user: str, form: Mapping[str, str]) -> Any:
        """Step 7 of the guide."""
        values = [{"name": name, "value": value} for name, value in form.items()]
        body = {
            "process_code": process_code,
            "originator_user_id": user,
            "dept_id": -1,
            "form_component_values": values,
        }
        return self._call("/topapi/processinstance/create", body)

    def _call(self, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Any:
        url = f"{self._base_url}{path}?{urlencode(self._token | query)}"
        content = None if body is None else json.dumps(body).encode()
        with urlopen(Request(url, content, {"Content-Type": "application/json"})) as answer:
            return json.load(answer)


ONE_OF_EACH: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("one_of_each.json").read_text("utf-8")
)
"""A message of each of DingTalk's types."""


def message(user: str, content: dict[str, Any], lane: Lane = "normal") -> MessageSend:
    """A message to one person."""
    return MessageSend.parse({"to": {"users": [user]}, "message": content, "lane": lane})


def texts(count: int, subject: str, lane: Lane) -> list[MessageSend]:
    """So many messages, each to another person and with another text: none can share a call."""
    return [
        message(f"u{number}", text(f"{subject}：第 {number} 号"), lane)
        for number in range(1, count + 1)
    ]


def text(content: str) -> dict[str, Any]:
    """A text message."""
    return {"msgtype": "text", "text": {"content": content}}


@dataclass
class Expected:
    """Everything that was asked.

    Attributes:
        jobs: the jobs of each kind, in order.
        campaigns: the campaigns, in order.
        contents: how many people each message was for, by its content.
        decisions: approval → its end, as a webhook reported it.
        joined: people who came into the directory by an event.
    """

    jobs: dict[str, list[JobRef]] = field(default_factory=dict[str, list[JobRef]])
    campaigns: list[CampaignRef] = field(default_factory=list[CampaignRef])
    contents: Counter[str] = field(default_factory=Counter[str])
    decisions: dict[str, str] = field(default_factory=dict[str, str])
    joined: set[str] = field(default_factory=set[str])

    def add(self, ref: JobRef, job: Contract) -> None:
        """One job was accepted."""
        self.jobs.setdefault(job.kind, []).append(ref)
        if isinstance(job, MessageSend):
            self.contents[canonical_json(payload(job.message))] += job.recipients

    def has(self, job_id: str) -> bool:
        """Whether a job is among those that were asked for."""
        return any(ref.id == job_id for refs in self.jobs.values() for ref in refs)

    def note_campaign(self, ref: CampaignRef, content: dict[str, Any], people: int) -> None:
        """One campaign of a message, to so many people, was created."""
        self.campaigns.append(ref)
        self.contents[canonical_json(content)] += people

    def statuses(self, kind: type[Contract]) -> list[JobStatus]:
        """States of the jobs of a kind."""
        return [ref.status() for ref in self.jobs.get(kind.kind, [])]


def ended(refs: Iterable[JobRef]) -> list[JobRef]:
    """The jobs that have ended."""
    return [ref for ref in refs if ref.status().state.ended]
