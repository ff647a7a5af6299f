"""JSON and times as options take them."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FROM_NOW = re.compile(r"^\+(\d{1,9})([smhd])$")


def read_json(text: str, option: str) -> Any:
    """The JSON of an option: given as such, or as ``@file``, or as ``@-`` for standard input.

    Raises:
        BadParameter: names the option.
    """
    try:
        if text.startswith("@"):
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}", param_hint=option) from None
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint=option) from None


def read_message(text: str | None, markdown: tuple[str, str] | None, message: str | None) -> Any:
    """DingTalk's ``msg`` object from the one option that gives it.

    Raises:
        BadParameter: none or several give it.
    """
    given = [option for option in (text, markdown, message) if option is not None]
    if len(given) != 1:
        raise typer.BadParameter(
            "give exactly one of them", param_hint="--text, --markdown, --message"
        )
    if text is not None:
        return {"msgtype": "text", "text": {"content": text}}
    if markdown is not None:
        title, body = markdown
        return {"msgtype": "markdown", "markdown": {"title": title, "text": body}}
    return read_json(message or "", "--message")


def read_moment(text: str | None, option: str) -> str | None:
    """A time as ISO 8601 with its zone; ``+10m`` counts from now, a time without zone is local.

    Raises:
        BadParameter: names the option.
    """
    if text is None:
        return None
    if match := _FROM_NOW.match(text):
        number, unit = match.groups()
        return (datetime.now(UTC) + timedelta(**{_UNITS[unit]: int(number)})).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "must be like 2026-01-31T09:00, 2026-01-31T09:00+08:00, +90s, +10m, +2h or +1d",
            param_hint=option,
        ) from None


def split(values: list[str] | None) -> list[str]:
    """Values of an option that may be repeated, or given comma-separated in one."""
    return [part for value in values or [] for part in value.split(",") if part]
