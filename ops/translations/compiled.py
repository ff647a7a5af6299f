"""Compiles the catalogues of translations for gettext, when the package is built or installed for editing."""

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LOCALE = "producers/dingrelay_producers/locale"


def compile_stale(root: Path) -> None:
    """Write each ``.mo`` that is missing, or older than its ``.po``."""
    for source in (root / LOCALE).rglob("*.po"):
        target = source.with_suffix(".mo")
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            written = target.with_suffix(".new")
            with source.open("rb") as po, written.open("wb") as mo:
                write_mo(mo, read_po(po))
            written.replace(target)


class CatalogueHook(BuildHookInterface[Any]):
    """Hatchling finds it by pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files of the package are gathered."""
        compile_stale(Path(self.root))
