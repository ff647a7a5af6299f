"""Files that were uploaded, to be named in messages (API §11.5)."""

import secrets
from dataclasses import dataclass

from dingrelay_sandbox.bodies import Upload

MEGABYTE = 1024 * 1024
LARGEST = {
    "image": 20 * MEGABYTE,
    "voice": 2 * MEGABYTE,
    "video": 20 * MEGABYTE,
    "file": 20 * MEGABYTE,
}
SUFFIXES = {
    "image": frozenset({"jpg", "jpeg", "gif", "png", "bmp"}),
    "voice": frozenset({"amr", "mp3", "wav"}),
    "video": frozenset({"mp4"}),
    "file": frozenset({"doc", "docx", "xls", "xlsx", "ppt", "pptx", "zip", "pdf", "rar"}),
}


@dataclass(frozen=True, slots=True)
class Medium:
    """One uploaded file."""

    id: str
    app: str
    kind: str
    name: str
    size: int


class Media:
    """All uploaded files, by their id."""

    def __init__(self) -> None:
        self.files: dict[str, Medium] = {}

    def add(self, app_key: str, kind: str, upload: Upload) -> Medium:
        """Keep what an app uploaded."""
        medium = Medium(f"@lAD{secrets.token_urlsafe(12)}", app_key, kind, upload.name, upload.size)
        self.files[medium.id] = medium
        return medium
