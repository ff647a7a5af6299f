"""Packages that are installed for a test's processes only: a folder that they search for modules."""

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, name: str, *, modules: Mapping[str, str], kinds: Mapping[str, str]
) -> Path:
    """A package with kinds of jobs, as pip would leave it; the folder to search.

    Args:
        folder: where.
        name: of the package, with ``_`` between its words.
        modules: path below the folder → content.
        kinds: its entry points.
    """
    information = folder / f"{name}-1.0.dist-info"
    points = "".join(f"{kind} = {module}\n" for kind, module in kinds.items())
    for path, content in {
        **modules,
        f"{information.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{information.name}/entry_points.txt": f"[dingrelay.kinds]\n{points}",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, "utf-8")
    return folder
