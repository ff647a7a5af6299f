"""One message made of many: titles with counts, the newest texts, all mentions (API §12.3, 4)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dingrelay_tasks.contract import Json

LONGEST_TITLE, LONGEST_TEXT = 120, 1_000
"""Characters of each message that a digest shows."""
FRAME = 1_500
"""Bytes of a digest that are left for its title and its mentions."""
RECOVERY = re.compile(r"\b(?:resolved|recovered|recovery|ok)\b|恢复|已解决", re.IGNORECASE)
"""Words of a message that says that all is well again; it is not counted with those that it answers."""


@dataclass(slots=True)
class _Section:
    """Messages of one key and title."""

    title: str
    text: str = ""
    count: int = 0
    newest: int = 0

    @property
    def head(self) -> str:
        return f"#### {self.title}" + (f" ×{self.count}" if self.count > 1 else "") + "\n"

    @property
    def body(self) -> str:
        return f"{self.text}\n" if self.text else ""


def merged(entries: Sequence[Json], limit: int) -> list[Json]:
    """The messages of a digest as one, or as several where even their titles are too long for one; none of none.

    The messages of a key stand together, in the order of the newest of each title.

    Args:
        entries: with ``key`` and ``message``, as they came.
        limit: bytes of a message.
    """
    if len(entries) <= 1:
        return [entry["message"] for entry in entries]
    room = limit - FRAME
    pages: list[list[_Section]] = [[]]
    size = 0
    for section in _sections(entries):
        cost = size_of(section.head)
        if pages[-1] and size + cost > room:
            pages.append([])
            size = 0
        pages[-1].append(section)
        size += cost
    at = _mentions(entries)
    messages: list[Json] = []
    for page in pages:
        count = sum(section.count for section in page)
        newest = max(page, key=lambda section: section.newest)
        text = _text(page, room)
        message: Json = {
            "msgtype": "markdown",
            "markdown": {"title": f"[{count}] {newest.title}", "text": text},
        }
        if at and not messages:
            mentions = " ".join(f"@{person}" for person in [*at["atMobiles"], *at["atUserIds"]])
            message["markdown"]["text"] += f"\n{mentions}"[: FRAME // 2]
            message["at"] = at
        messages.append(message)
    return messages


def _sections(entries: Sequence[Json]) -> list[_Section]:
    keys: dict[str, dict[tuple[str, bool], _Section]] = {}
    for number, entry in enumerate(entries):
        title, text = _parts(entry["message"])
        of_key = keys.setdefault(entry["key"], {})
        same = title, bool(RECOVERY.search(f"{title} {text}"))
        section = of_key.setdefault(same, _Section(title))
        section.text, section.newest = text, number
        section.count += 1
    return [
        section
        for of_key in keys.values()
        for section in sorted(of_key.values(), key=lambda section: section.newest)
    ]


def _parts(message: Json) -> tuple[str, str]:
    """Title and text of a message; of a plain text its first line and the rest."""
    if message["msgtype"] == "markdown":
        title, text = message["markdown"]["title"], message["markdown"]["text"]
    else:
        title, _, text = message["text"]["content"].strip().partition("\n")
    return " ".join(title.split())[:LONGEST_TITLE] or "-", text.strip()[:LONGEST_TEXT]


def _text(page: Sequence[_Section], room: int) -> str:
    """The titles, and of the texts the newest as far as there is room."""
    remaining_bytes = room - sum(size_of(section.head) for section in page)
    shown: set[int] = set()
    for section in sorted(page, key=lambda section: -section.newest):
        remaining_bytes -= size_of(section.body)
        if remaining_bytes < 0:
            break
        shown.add(section.newest)
    return "\n".join(
        section.head + (section.body if section.newest in shown else "") for section in page
    )


def _mentions(entries: Sequence[Json]) -> Json | None:
    """The mentions of all messages; None if there is none."""
    mentions = [entry["message"]["at"] for entry in entries if entry["message"].get("at")]
    if not mentions:
        return None
    return {
        "atMobiles": list(
            dict.fromkeys(mobile for at in mentions for mobile in at.get("atMobiles", ()))
        ),
        "atUserIds": list(
            dict.fromkeys(userid for at in mentions for userid in at.get("atUserIds", ()))
        ),
        "isAtAll": any(at.get("isAtAll") for at in mentions),
    }


def size_of(values: object) -> int:
    """Bytes of JSON values; of a text in a message with the line end that follows it."""
    return len(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace"))
