"""Flower's server: what its pages show, without the controls that workers of ours refuse.

It runs in this process, so that the password and the broker's URL are in no process list.

What waits is asked of all Sentinels: Flower itself asks the first one of the URL only, and shows nothing while that is
away. RabbitMQ counts through its management API only; where its URL is not set, Flower would guess it, and send the
broker's password there over plain HTTP.
"""

import logging
import re
import signal
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery import Celery
from celery.states import SUCCESS
from flower.app import Flower
from flower.options import options
from flower.urls import settings as web_settings
from flower.utils import broker
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from structlog.stdlib import get_logger
from tornado.template import Loader, Template

from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.settings import LOOPBACK, Settings, SettingsError
from dingrelay_producers.settings.addresses import scheme
from dingrelay_producers.store.connections import open_async
from dingrelay_tasks.kinds import TASK_PREFIX
from dingrelay_workers.flower.credentials import flower_credentials

log = get_logger("dingrelay.flower")


class Queues(broker.RedisBase):  # type: ignore[misc]  # flower ships no types
    """The queues of one Redis. Flower makes one for each look, which closes its connection.

    Args:
        address: of the broker.
        arguments: of Flower's, from Celery's settings.
        options: the same.
    """

    def __init__(self, address: RedisAddress, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.redis = open_async(
            address,
            socket_timeout=self.socket_timeout,
            socket_connect_timeout=self.socket_connect_timeout,
            retry=Retry(NoBackoff(), 0),
        )


class RabbitQueues(broker.RabbitMQ):  # type: ignore[misc]  # flower ships no types
    """The queues of a RabbitMQ that is reached over TLS.

    Args:
        ca: file with the authorities that may have signed the certificate of its management API; the system's
            if empty.
        url: of the broker.
        http_api: URL of that API; nothing is asked, and nothing shown, if it is empty.
        options: of Flower's, from Celery's settings.
    """

    def __init__(self, ca: str, url: str, http_api: str | None, **options: Any) -> None:
        super().__init__(url, http_api, **options)
        self._ca, self._known = ca, bool(http_api)

    async def queues(self, names: Iterable[str]) -> Any:
        """The number of messages in each of these queues."""
        return (await super().queues(names) or []) if self._known else []

    def _tls_kwargs(self) -> dict[str, Any]:
        return {"validate_cert": True, "ca_certs": self._ca or None}


def management_api(settings: Settings) -> str | None:
    """The URL of RabbitMQ's management API as Flower completes it; None if there is none.

    Flower takes the last part of a path for the name of a file, and replaces it.

    Raises:
        SettingsError: it would have a password in plain, and the broker has it over TLS.
    """
    url = settings.flower_broker_api.get_secret_value()
    if not url:
        return None
    parts = urlsplit(url)
    if _over_tls(settings) and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise SettingsError("DINGRELAY_FLOWER_BROKER_API: must be https, as the broker is amqps")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/') or '/api'}/"))


def install_redis(address: RedisAddress | None) -> None:
    """Have Flower count so, where the broker is behind Sentinel."""
    if address is not None and address.master:
        _replace("RedisSentinel", partial(Queues, address))


def install_rabbitmq(settings: Settings) -> None:
    """Have Flower count so, where the broker is a RabbitMQ that is reached over TLS."""
    if not _over_tls(settings):
        return
    _replace("RabbitMQ", partial(RabbitQueues, settings.tls_ca))
    if not settings.flower_broker_api.get_secret_value():
        log.warning("flower_shows_no_queues", set="DINGRELAY_FLOWER_BROKER_API")


def _over_tls(settings: Settings) -> bool:
    return scheme(settings.broker) == "amqps"


def _replace(part: str, by: Any) -> None:
    """Another release of Flower may have no such part. Then it counts as it does by itself."""
    if not hasattr(broker, part):
        log.warning("flower_part_unknown", part=part)
        return
    setattr(broker, part, by)


COLUMNS = "name,state,kwargs,result,runtime,received,worker,uuid"
"""Columns of the page of tasks, the most important first."""

TASKS_KEPT = 100_000
OFFLINE_SECONDS = 600
"""Workers that ended are shown for so long."""

_HIDDEN = r"\g<0> hidden"
_WRAPPED = r"""<style>
.tasks-table td.overflow-auto { white-space: normal !important; overflow-wrap: anywhere }
.tasks-table .task-uuid-full { display: none }
.tasks-table .task-uuid-short { display: inline }
</style>
\g<0>"""
CHANGES: Mapping[str, Mapping[str, str]] = {
    "worker.html": {
        r'<div class="worker-control-group"(?=>\s*<label for="min-autoscale")': _HIDDEN,
        r'<li class="nav-item" role="presentation"(?=><a class="nav-link" id="worker-tab-limits")': _HIDDEN,
        r'<li(?=>\s*<button id="worker-pool-restart")': _HIDDEN,
    },
    "tasks.html": {'<table id="tasks-table"': _WRAPPED},
}
"""Page → what is changed on it.

Hidden are the range of an autoscaler, rate limits and time limits of tasks, and a new start of the pool: what does
the same here is a setting, or another worker. The columns of the tasks wrap, so that 1,280 pixels show all of them.
"""


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
    options.broker_api = management_api(settings)
    install_redis(settings.broker_address)
    install_rabbitmq(settings)
    # As the current one it gives the pages its zone.
    celery = Celery("dingrelay-flower")
    celery.config_from_object(celery_config(settings) | {"timezone": settings.timezone})
    flower = Flower(capp=celery, options=options, **settings_with(web_settings))

    def stop(*_: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    bound = flower.start_http_server()
    log.info("flower_ready", url=f"http://{address}:{bound}", password=bool(options.basic_auth))
    flower.start()


class Pages(Loader):
    """Loads Flower's templates, and changes them.

    Another release of Flower may spell its pages otherwise. Then they are as Flower made them.
    """

    def _create_template(self, name: str) -> Template:
        text = Path(self.root, name).read_text("utf-8")
        return Template(changed(name, text), name=name, loader=self)


def changed(name: str, text: str) -> str:
    """The text of a page with its `CHANGES`."""
    for part, becomes in CHANGES.get(name, {}).items():
        text, count = re.subn(part, becomes, text)
        if count != 1:
            log.warning("flower_page_unknown", page=name, part=part, found=count)
    return text


def settings_with(pages: Mapping[str, Any]) -> dict[str, Any]:
    """Flower's settings of its pages, with these."""
    return {**pages, "template_loader": Pages(pages["template_path"])}
