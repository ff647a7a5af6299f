"""The page at ``/_sandbox/``: links to what the sandbox shows, for people, in both languages."""

import html
from collections.abc import Iterable
from itertools import islice
from urllib.parse import quote

from dingrelay_sandbox.state import SandboxState

INBOXES = 20
TITLES = {
    "inboxes": "all inboxes 全部收件箱",
    "dropped": "who got nothing, silently 静默丢弃的收件人",
    "approvals": "approvals 审批",
    "organisation": "people and departments 人员和部门",
    "robots": "posts of robots 机器人消息",
    "events": "events 事件",
    "audit": "sums of calls and deliveries 调用和送达的合计",
    "calls": "calls 调用",
    "limits": "limits 限流",
    "faults": "scripted faults 预设的故障",
}


def page(state: SandboxState, routes: Iterable[str]) -> str:
    """The page of links to these routes, to inboxes of people and to posts in groups."""
    groups = dict.fromkeys(post["group"] for post in reversed(state.robots.posts))
    people = [*islice(state.sends.inboxes, INBOXES)] or ["u1"]
    ordered = sorted(routes, key=lambda name: (name not in TITLES, name))
    titled = [(name, TITLES.get(name, "")) for name in ordered]
    rest = ((f"inbox/{quote(user)}", "inbox 收件箱") for user in people)
    chats = ((f"groups/{quote(group, safe='')}", "group 群") for group in islice(groups, INBOXES))
    rows = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(path)}</a> {html.escape(title)}'
        for path, title in (*rest, *chats, *titled)
    )
    return (
        "<!DOCTYPE html><meta charset=utf-8><title>sandbox 模拟钉钉</title>"
        "<style>body{font:15px sans-serif;max-width:40em;margin:2em auto}</style>"
        f"<h1>sandbox 模拟钉钉</h1><ul>{rows}</ul>"
    )
