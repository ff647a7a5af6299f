"""Flower's server: what its pages show, without the controls that workers of ours refuse.

It runs in this process, so that the password and the broker's URL are in no process list.
"""

import logging
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.states import SUCCESS
from flower.app import Flower
from flower.options import options
from flower.urls import settings as web_settings
from structlog.stdlib import get_logger
from tornado.template import Loader, Template

from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.settings import Settings
from dingrelay_tasks.kinds import TASK_PREFIX
from dingrelay_workers.flower import queues
from dingrelay_workers.flower.cli import flower_credentials

COLUMNS = "name,state,kwargs,result,runtime,received,worker,uuid"
"""Of the page of tasks, what matters most first: 1,280 pixels show all up to the time."""

TASKS_KEPT = 100_000
OFFLINE_SECONDS = 600
"""Workers that ended are shown for so long."""

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


def format_task(task: Any) -> Any:
    """Show of a job what its name does not tell, and nothing of its text.

    The client's summary stands for the arguments; what a bare Celery client sends has none.
    """
    # Why a job waits or failed stands where the result of others does. Flower remembers it afterwards.
    if task.state != SUCCESS:
        task.result = task.exception or task.result
    shown = str(task.kwargs or "")
    if shown.startswith("{"):
        task.kwargs = "a job without a summary"
    else:
        task.kwargs = shown.removeprefix(f"{str(task.name).removeprefix(TASK_PREFIX)} ")
    task.name = str(task.name).removeprefix(TASK_PREFIX)
    return task


def serve(settings: Settings, *, address: str, port: int) -> None:
    """Run Flower until SIGINT or SIGTERM.

    Raises:
        SettingsError: a password is needed and not set, or would be sent in plain.
        OSError: the port is taken.
    """
    options.basic_auth = flower_credentials(settings, address=address)
    # Tornado would take "::" for IPv6 only.
    options.address, options.port = "" if address == "::" else address, port
    options.tasks_columns = COLUMNS
    options.max_tasks = TASKS_KEPT
    options.purge_offline_workers = OFFLINE_SECONDS
    options.persistent = False
    options.format_task = format_task
    # It asks the workers once at its start, and calls it a failure that none runs yet.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    options.broker_api = queues.management_api(settings)
    queues.install(settings.broker_address)
    queues.install_rabbitmq(settings)
    celery = Celery("dingrelay-flower", set_as_current=False)
    # Without a zone of its own the browser shows the reader's.
    celery.config_from_object(celery_config(settings) | {"timezone": None})
    flower = Flower(capp=celery, options=options, **settings_with(web_settings))

    def stop(*_: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    bound = flower.start_http_server()
    log.info("flower_ready", url=f"http://{address}:{bound}", password=bool(options.basic_auth))
    flower.start()


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
