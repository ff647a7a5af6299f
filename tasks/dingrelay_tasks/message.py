"""The eight types of a work notification, as DingTalk spells them (API §2.6).

Lengths are in characters. What DingTalk only suggests, or contradicts itself about, is left to its
server; what it surely refuses is refused here, with the field named. Nothing is ever cut.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from dingrelay_tasks.contract import TYPE_FIELD, ContractError, Part
from dingrelay_tasks.sentence import en

BODY_LIMIT = 5_000
BUTTONS_LIMIT = 1_000
"""Characters of all buttons of one action card as JSON."""
STATUS_BAR_USERS = 5
"""A status bar can't be shown to more users than this in one call."""

Body = Annotated[str, Field(min_length=1, max_length=BODY_LIMIT)]
Label = Annotated[str, Field(min_length=1, max_length=BODY_LIMIT)]
MediaId = Annotated[str, Field(min_length=1, max_length=1_000)]
"""The id of an uploaded file (``@…``); a picture may also be a URL."""

# `json.dumps` would make an encoder at each call.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_URL = r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$"  # DingTalk's own schemes too: dingtalk://, eapp://
Url = Annotated[str, Field(pattern=_URL, max_length=2_048)]


class Text(Part):
    """The body of a text message."""

    content: Body


class Image(Part):
    """The body of an image message."""

    media_id: MediaId


class Voice(Part):
    """The body of a voice message. `duration`: whole seconds below 60, as a string."""

    media_id: MediaId
    duration: Annotated[str, Field(pattern=r"^([1-9]|[1-5][0-9])$")]


class File(Part):
    """The body of a file message."""

    media_id: MediaId


class Link(Part):
    """The body of a link message."""

    messageUrl: Url  # noqa: N815 - DingTalk's spelling
    picUrl: MediaId  # noqa: N815 - DingTalk's spelling
    title: Label
    text: Body


class Markdown(Part):
    """The body of a Markdown message. `title` is what the list of chats shows."""

    title: Label
    text: Body


class Button(Part):
    """One of several buttons of an action card."""

    title: Annotated[str, Field(min_length=1, max_length=20)]
    action_url: Annotated[str, Field(pattern=_URL, max_length=700)]


class ActionCard(Part):
    """The body of an action card: one link for the whole card, or several buttons.

    Attributes:
        btn_orientation: several buttons only: ``0`` one below the other, which is the default;
            ``1`` side by side.
    """

    title: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    markdown: Body
    single_title: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    single_url: Annotated[str, Field(pattern=_URL, max_length=500)] | None = None
    btn_orientation: Literal["0", "1"] | None = None
    btn_json_list: Annotated[list[Button], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _buttons_stack_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("btn_json_list") is not None:
            card = cast("dict[str, Any]", data)
            return card | {"btn_orientation": card.get("btn_orientation") or "0"}
        return cast("object", data)

    @model_validator(mode="after")
    def _either_one_link_or_buttons(self) -> Self:
        if self.btn_json_list is None:
            if self.btn_orientation is not None:
                raise ContractError("btn_orientation", "is for cards with btn_json_list")
            for name in ("single_title", "single_url"):
                if getattr(self, name) is None:
                    raise ContractError(name, "is required, unless there is btn_json_list")
            return self
        for name in ("single_title", "single_url"):
            if getattr(self, name) is not None:
                raise ContractError(name, "can't be combined with btn_json_list")
        buttons = [button.model_dump() for button in self.btn_json_list]
        if len(json.dumps(buttons, ensure_ascii=False, separators=(",", ":"))) > BUTTONS_LIMIT:
            raise ContractError(
                "btn_json_list", en("more than {} characters as JSON", BUTTONS_LIMIT)
            )
        return self


class OaHead(Part):
    """The head of an OA message. `bgcolor`: ARGB, eight hexadecimal digits without ``0x``."""

    bgcolor: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}$")]
    text: Label


class OaStatusBar(Part):
    """The status bar of an OA message. `status_bg`: ARGB with ``0x``."""

    status_value: Label
    status_bg: Annotated[str, Field(pattern=r"^0x[0-9A-Fa-f]{8}$")] | None = None


class OaFormEntry(Part):
    """One line of the form of an OA message."""

    key: Label
    value: Label


class OaRich(Part):
    """The one big number of an OA message, with its unit."""

    num: Label
    unit: Label | None = None


class OaBody(Part):
    """The body proper of an OA message.

    Clients show the first six lines of the form and cut a title of more than 50 characters; their
    server takes more (API §11.3).
    """

    title: Label | None = None
    form: Annotated[list[OaFormEntry], Field(min_length=1)] | None = None
    rich: OaRich | None = None
    content: Body | None = None
    image: MediaId | None = None
    file_count: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")] | None = None
    author: Label | None = None


class Oa(Part):
    """The body of an OA message."""

    message_url: Url
    pc_message_url: Url | None = None
    head: OaHead
    status_bar: OaStatusBar | None = None
    body: OaBody


class Content(Part):
    """A message of one of the types."""

    @cached_property
    def digest(self) -> str:
        """Digest of the content: equal for messages that DingTalk treats as the same."""
        return digest(payload(cast("Message", self)))


class TextMessage(Content):
    """Plain text."""

    msgtype: Literal["text"]
    text: Text


class ImageMessage(Content):
    """An uploaded image."""

    msgtype: Literal["image"]
    image: Image


class VoiceMessage(Content):
    """An uploaded recording."""

    msgtype: Literal["voice"]
    voice: Voice


class FileMessage(Content):
    """An uploaded file."""

    msgtype: Literal["file"]
    file: File


class LinkMessage(Content):
    """A link with a title, a text and a picture."""

    msgtype: Literal["link"]
    link: Link


class MarkdownMessage(Content):
    """Markdown."""

    msgtype: Literal["markdown"]
    markdown: Markdown


class ActionCardMessage(Content):
    """Markdown with one link or several buttons."""

    msgtype: Literal["action_card"]
    action_card: ActionCard


class OaMessage(Content):
    """A form-like message with a head."""

    msgtype: Literal["oa"]
    oa: Oa


Message = Annotated[
    TextMessage
    | ImageMessage
    | VoiceMessage
    | FileMessage
    | LinkMessage
    | MarkdownMessage
    | ActionCardMessage
    | OaMessage,
    Field(discriminator=TYPE_FIELD),
]


def payload(message: Message) -> dict[str, Any]:
    """The message as DingTalk's own ``msg`` object; equal messages give equal bytes as JSON."""
    return message.model_dump(mode="json", exclude_none=True)


def digest(content: Mapping[str, Any]) -> str:
    """Digest of a ``msg`` object, whatever the order of its fields."""
    return hashlib.sha256(_CANONICAL.encode(content).encode()).hexdigest()
