"""The message of a broadcast as the fields of a form; a draft's may be incomplete."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from dingrelay_tasks.contract import TYPE_FIELD
from dingrelay_tasks.sentence import en


class MessageField(NamedTuple):
    """A field of the form.

    Attributes:
        name: where its value stands in DingTalk's ``msg`` object, with dots.
        label: for people.
        most: characters.
        widget: how it is filled in: ``line``, ``text``, ``url`` or ``colour``.
        takes: the type of a file that is uploaded beside it, and becomes its value or a picture in its text; "" for none.
    """

    name: str
    label: str
    most: int = 5_000
    widget: str = "line"
    takes: str = ""

    def with_medium(self, value: str, media_id: str, name: str) -> str:
        """The value with an uploaded file."""
        if self.widget != "text":
            return media_id
        return f"{value}\n\n![{re.sub(r'[][()]', '', name)}]({media_id})".strip()


TYPES: Mapping[str, str] = {
    "text": en("Plain text"),
    "markdown": en("Text with headings and lists"),
    "link": en("Link with a title"),
    "action_card": en("Card with buttons"),
    "oa": en("Notice with a table"),
    "image": en("Picture"),
    "file": en("File"),
}
BUTTONS = 3
COLOURS: Mapping[str, str] = {
    "FF2F6BFF": en("blue"),
    "FF1F8A4C": en("green"),
    "FFD4660A": en("orange"),
    "FFC62F2F": en("red"),
    "FF5B6472": en("grey"),
}
"""ARGB of the head of a notice."""
ROWS = "oa.body.form"
"""Rows of a notice's table: ``name: value`` a line."""

_CARD = "action_card"
_PICTURE = en("Picture: upload it below, this fills itself in")
FIELDS: Mapping[str, tuple[MessageField, ...]] = {
    "text": (MessageField("text.content", en("Text"), widget="text"),),
    "markdown": (
        MessageField("markdown.title", en("Title, as the list of chats shows it"), 200),
        MessageField(
            "markdown.text", en("Text: # heading, **bold**, - list"), widget="text", takes="image"
        ),
    ),
    "link": (
        MessageField("link.title", en("Title"), 200),
        MessageField("link.text", en("Text"), 500, "text"),
        MessageField("link.messageUrl", en("Address that it opens"), 2_048, "url"),
        MessageField(
            "link.picUrl", en("Address of its picture, or upload it below"), 1_000, takes="image"
        ),
    ),
    _CARD: (
        MessageField("action_card.title", en("Title, as the list of chats shows it"), 64),
        MessageField(
            "action_card.markdown",
            en("Text: # heading, **bold**, - list"),
            widget="text",
            takes="image",
        ),
        *(
            MessageField(f"action_card.{at}.{part}", label, most, widget)
            for at in range(1, BUTTONS + 1)
            for part, label, most, widget in (
                ("title", en("Button {}", at), 20, "line"),
                ("url", en("Button {} opens", at), 500, "url"),
            )
        ),
    ),
    "oa": (
        MessageField("oa.head.text", en("Head"), 20),
        MessageField("oa.head.bgcolor", en("Colour of the head"), 8, "colour"),
        MessageField("oa.body.title", en("Title"), 50),
        MessageField(ROWS, en("Table, one row a line, such as Place: Hall 2"), 2_000, "text"),
        MessageField("oa.body.rich.num", en("A large number"), 20),
        MessageField("oa.body.rich.unit", en("Its unit"), 10),
        MessageField("oa.body.content", en("Text"), 2_000, "text"),
        MessageField("oa.body.image", _PICTURE, 1_000, takes="image"),
        MessageField("oa.body.author", en("Author"), 50),
        MessageField("oa.message_url", en("Address that it opens"), 2_048, "url"),
    ),
    "image": (MessageField("image.media_id", _PICTURE, 1_000, takes="image"),),
    "file": (
        MessageField(
            "file.media_id",
            en("File: upload it below, this fills itself in"),
            1_000,
            takes="file",
        ),
    ),
}
ALL = [field for fields in FIELDS.values() for field in fields]
_ROW = re.compile(r"[:：]")
_BUTTON = re.compile(rf"{_CARD}\.(?:btn_json_list\.(\d+)\.|single_)(title|url|action_url)")


def message_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The ``msg`` object of a form; what is not filled in is missing."""
    kind = form.get(TYPE_FIELD, "")
    if kind not in FIELDS:
        kind = "text"
    values = {
        field.name: value
        for field in FIELDS[kind]
        if (value := form.get(field.name, "").replace("\r\n", "\n").strip())
    }
    message: dict[str, Any] = {TYPE_FIELD: kind, kind: {}}
    rows = [_ROW.split(line, maxsplit=1) for line in values.pop(ROWS, "").splitlines() if line]
    buttons = [
        (values.pop(f"{_CARD}.{at}.title", ""), values.pop(f"{_CARD}.{at}.url", ""))
        for at in range(1, BUTTONS + 1)
    ]
    for name, value in values.items():
        *way, name_of_field = name.split(".")
        inner = message
        for step in way:
            inner = inner.setdefault(step, {})
        inner[name_of_field] = value
    if rows:
        table = [{"key": key.strip(), "value": "".join(value).strip()} for key, *value in rows]
        message["oa"].setdefault("body", {})["form"] = table
    match [button for button in buttons if any(button)]:
        case []:
            pass
        case [(title, url)]:
            message[_CARD] |= {"single_title": title, "single_url": url}
        case several:
            listed = [{"title": title, "action_url": url} for title, url in several]
            message[_CARD] |= {"btn_orientation": "0", "btn_json_list": listed}
    return message


def others_of(form: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The ``msg`` objects of the types that are not chosen, as far as they are written, by type."""
    return {
        kind: message_of({**form, TYPE_FIELD: kind})
        for kind, fields in FIELDS.items()
        if kind != message_of(form)[TYPE_FIELD]
        and any(form.get(field.name, "").strip() for field in fields if field.widget != "colour")
    }


def form_of(message: Mapping[str, Any]) -> dict[str, str]:
    """The form's fields, from which `message_of` makes this message."""
    kind = str(message.get(TYPE_FIELD, "text"))
    form = {TYPE_FIELD: kind}
    body = _dict(message.get(kind))
    for field in FIELDS.get(kind, ()):
        value: Any = message
        for step in field.name.split("."):
            value = _dict(value).get(step)
        if isinstance(value, str):
            form[field.name] = value
    buttons = [(body.get("single_title"), body.get("single_url"))] if kind == _CARD else []
    if listed := _list(body.get("btn_json_list")):
        buttons = [(button.get("title"), button.get("action_url")) for button in listed]
    for at, (title, url) in enumerate(buttons[:BUTTONS], 1):
        form |= {f"{_CARD}.{at}.title": str(title or ""), f"{_CARD}.{at}.url": str(url or "")}
    if rows := _list(_dict(body.get("body")).get("form")):
        form[ROWS] = "\n".join(f"{row.get('key', '')}：{row.get('value', '')}" for row in rows)
    return form


def field_of(path: str) -> MessageField | None:
    """The field that a refusal names, such as ``message.link.title``; None where it names none."""
    name = path.removeprefix("message.")
    if button := _BUTTON.fullmatch(name):
        part = "title" if button[2] == "title" else "url"
        name = f"{_CARD}.{int(button[1] or 0) + 1}.{part}"
    return next((field for field in ALL if _within(field.name, name)), None)


def label_of(path: str) -> str:
    """The label of the field that a refusal names."""
    other = en("Message") if path.startswith("message") else path
    return field.label if (field := field_of(path)) else other


def _within(name: str, other: str) -> bool:
    """Whether one of two names is that of the other, or of what it stands in."""
    return name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    items: list[Any] = value if isinstance(value, list) else []
    return [_dict(item) for item in items]
