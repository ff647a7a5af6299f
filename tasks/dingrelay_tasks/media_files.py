"""Files that DingTalk takes for messages: their types and sizes (API §11.5)."""

from typing import Literal

LARGEST_FILE = 20 * 2**20
"""Bytes of DingTalk's largest file."""
LARGEST = LARGEST_FILE + 65_536
"""Bytes of an upload: the file, and the form around it."""

MediaType = Literal["image", "voice", "video", "file"]
ENDINGS: dict[str, MediaType] = {
    **dict.fromkeys(("jpg", "jpeg", "gif", "png", "bmp"), "image"),
    **dict.fromkeys(("amr", "mp3", "wav"), "voice"),
    "mp4": "video",
    **dict.fromkeys(("doc", "docx", "xls", "xlsx", "ppt", "pptx", "zip", "pdf", "rar"), "file"),
}
"""File endings, and the type that DingTalk takes such a file as."""
