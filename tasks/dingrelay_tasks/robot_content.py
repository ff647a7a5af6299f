"""The messages of robots, as DingTalk spells them for a webhook, and as an enterprise robot takes them (API §12.4, §12.6)."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dingrelay_tasks.contract import TYPE_FIELD, ContractError, Json, Part, UserId
from dingrelay_tasks.message import Url

Line = Annotated[str, Field(min_length=1, max_length=1_000)]
LongText = Annotated[str, Field(min_length=1, max_length=200_000)]
Address = Annotated[str, Field(min_length=1, max_length=2_048)]
"""A URL, or a media_id where DingTalk takes one for it."""


class Mentions(Part):
    """The people that a message mentions. Their @ must stand in the text too (API §12.4)."""

    atMobiles: Annotated[list[Line], Field(max_length=100)] = Field(default_factory=list)  # noqa: N815
    atUserIds: Annotated[list[UserId], Field(max_length=100)] = Field(default_factory=list)  # noqa: N815
    isAtAll: bool = False  # noqa: N815 - DingTalk's spelling, here and below


class RobotText(Part):
    """Plain text."""

    content: LongText


class RobotLink(Part):
    """A link with a picture."""

    title: Line
    text: LongText
    messageUrl: Url  # noqa: N815
    picUrl: Annotated[str, Field(max_length=2_048)] | None = None  # noqa: N815


class RobotMarkdown(Part):
    """Markdown. `title` is what the list of chats shows."""

    title: Line
    text: LongText


class CardButton(Part):
    """A button of an action card."""

    title: Line
    actionURL: Url  # noqa: N815


class RobotCard(Part):
    """An action card: one link for the whole card, or several buttons."""

    title: Line
    text: LongText
    singleTitle: Line | None = None  # noqa: N815
    singleURL: Url | None = None  # noqa: N815
    btnOrientation: Literal["0", "1"] | None = None  # noqa: N815
    hideAvatar: Literal["0", "1"] | None = None  # noqa: N815
    btns: Annotated[list[CardButton], Field(min_length=1, max_length=20)] | None = None

    @model_validator(mode="after")
    def _either_one_link_or_buttons(self) -> Self:
        if self.btns is not None and (self.singleTitle or self.singleURL):
            raise ContractError("btns", "can't be combined with singleTitle and singleURL")
        if self.btns is None and not (self.singleTitle and self.singleURL):
            raise ContractError("btns", "is required, unless there are singleTitle and singleURL")
        return self


class FeedLink(Part):
    """One line of a feed card."""

    title: Line
    messageURL: Url  # noqa: N815
    picURL: Address  # noqa: N815


class FeedCard(Part):
    """Several links, each with its picture."""

    links: Annotated[list[FeedLink], Field(min_length=1, max_length=50)]


class RobotImage(Part):
    """A picture by its address."""

    photoURL: Address  # noqa: N815


class RobotAudio(Part):
    """A recording. `duration`: milliseconds."""

    mediaId: Line  # noqa: N815
    duration: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class RobotFile(Part):
    """An uploaded file."""

    mediaId: Line  # noqa: N815
    fileName: Line  # noqa: N815
    fileType: Line  # noqa: N815


class RobotVideo(Part):
    """An uploaded video. `duration`: seconds."""

    duration: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
    videoMediaId: Line  # noqa: N815
    videoType: Line  # noqa: N815
    picMediaId: Line  # noqa: N815


class RobotTextMessage(Part):
    """Plain text."""

    msgtype: Literal["text"]
    text: RobotText
    at: Mentions | None = None


class RobotLinkMessage(Part):
    """A link; it can't mention anybody."""

    msgtype: Literal["link"]
    link: RobotLink


class RobotMarkdownMessage(Part):
    """Markdown."""

    msgtype: Literal["markdown"]
    markdown: RobotMarkdown
    at: Mentions | None = None


class RobotCardMessage(Part):
    """An action card."""

    msgtype: Literal["actionCard"]
    actionCard: RobotCard  # noqa: N815
    at: Mentions | None = None


class FeedCardMessage(Part):
    """A feed card; it can't mention anybody."""

    msgtype: Literal["feedCard"]
    feedCard: FeedCard  # noqa: N815


class RobotImageMessage(Part):
    """A picture, by an enterprise robot."""

    msgtype: Literal["image"]
    image: RobotImage


class RobotAudioMessage(Part):
    """A recording, by an enterprise robot."""

    msgtype: Literal["audio"]
    audio: RobotAudio


class RobotFileMessage(Part):
    """A file, by an enterprise robot."""

    msgtype: Literal["file"]
    file: RobotFile


class RobotVideoMessage(Part):
    """A video, by an enterprise robot."""

    msgtype: Literal["video"]
    video: RobotVideo


RobotContent = Annotated[
    RobotTextMessage
    | RobotLinkMessage
    | RobotMarkdownMessage
    | RobotCardMessage
    | FeedCardMessage
    | RobotImageMessage
    | RobotAudioMessage
    | RobotFileMessage
    | RobotVideoMessage,
    Field(discriminator=TYPE_FIELD),
]


MOST_BUTTONS = 5


def enterprise(message: Json) -> tuple[str, Json]:
    """The ``msgKey`` of an enterprise robot, and its parameters (API §12.6)."""
    msgtype = message[TYPE_FIELD]
    part: Json = message[msgtype]
    if msgtype != "actionCard":
        return f"sample{_KEYS[msgtype]}", {"picUrl": "", **part} if msgtype == "link" else part
    base = {"title": part["title"], "text": part["text"]}
    buttons: Sequence[Json] = part.get("btns", ())
    if len(buttons) < 2:
        sole_button = buttons[0] if buttons else {}
        return "sampleActionCard", {
            **base,
            "singleTitle": sole_button.get("title") or part["singleTitle"],
            "singleURL": sole_button.get("actionURL") or part["singleURL"],
        }
    side_by_side = len(buttons) == 2 and part.get("btnOrientation") == "1"
    title, url = ("buttonTitle", "buttonUrl") if side_by_side else ("actionTitle", "actionURL")
    for number, button in enumerate(buttons, 1):
        base |= {f"{title}{number}": button["title"], f"{url}{number}": button["actionURL"]}
    return f"sampleActionCard{6 if side_by_side else len(buttons)}", base


_KEYS = {
    "text": "Text",
    "markdown": "Markdown",
    "link": "Link",
    "image": "ImageMsg",
    "audio": "Audio",
    "file": "File",
    "video": "Video",
}
