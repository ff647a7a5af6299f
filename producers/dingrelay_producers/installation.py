"""How this copy of dingrelay was installed, and so how an extra is added to it: its name at an index may not be ours."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any
from urllib.parse import unquote, urlsplit

from dingrelay_tasks.sentence import en

NAME = "dingrelay"


def how_to_add(extra: str) -> str:
    """How an extra is added to this copy: pip's command, or a sentence."""
    try:
        copy = distribution(NAME)
    except PackageNotFoundError:
        return from_source({}, extra=extra, version="")
    return from_source(
        json.loads(copy.read_text("direct_url.json") or "{}"), extra=extra, version=copy.version
    )


def from_source(source: Mapping[str, Any], *, extra: str, version: str) -> str:
    """How an extra is added to a copy.

    Args:
        source: what pip wrote down of where it came from (PEP 610); empty for what came by its name.
        extra: such as ``worker``.
        version: of the copy.
    """
    url = str(source.get("url", ""))
    if not url:
        return en(
            "install dingrelay {} again from where it came, with the extra {}", version, extra
        )
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}@{source['vcs_info']['commit_id']}"
    if urlsplit(url).scheme != "file":
        return f"pip install '{NAME}[{extra}] @ {url}'"
    editable = "--editable " if source.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}'{unquote(urlsplit(url).path)}[{extra}]'"
