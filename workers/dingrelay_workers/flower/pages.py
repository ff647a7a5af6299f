"""Flower's pages without the controls that workers of ours refuse (`celery_worker/remote_control.py`)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from structlog.stdlib import get_logger
from tornado.template import Loader, Template

HIDDEN: Mapping[str, Sequence[str]] = {
    "worker.html": (
        r'<div class="worker-control-group"(?=>\s*<label for="min-autoscale")',
        r'<li class="nav-item" role="presentation"(?=><a class="nav-link" id="worker-tab-limits")',
        r'<li(?=>\s*<button id="worker-pool-restart")',
    ),
}
"""Page → beginnings of what is not shown on it: the range of an autoscaler, rate limits and time limits
of tasks, and a new start of the pool. What does the same here is a setting, or another worker."""

log = get_logger("dingrelay.flower")


class Pages(Loader):
    """Loads Flower's templates, and hides in them what would be refused.

    Another release of Flower may spell its pages otherwise. Then they are as Flower made them.
    """

    def _create_template(self, name: str) -> Template:
        text = Path(self.root, name).read_text("utf-8")
        return Template(hidden(name, text), name=name, loader=self)


def hidden(name: str, text: str) -> str:
    """The text of a page with those parts hidden."""
    for beginning in HIDDEN.get(name, ()):
        text, count = re.subn(beginning, r"\g<0> hidden", text)
        if count != 1:
            log.warning("flower_page_unknown", page=name, part=beginning, found=count)
    return text


def settings_with(pages: Mapping[str, Any]) -> dict[str, Any]:
    """Flower's settings of its pages, with these."""
    return {**pages, "template_loader": Pages(pages["template_path"])}
