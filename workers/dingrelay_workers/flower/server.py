"""Flower's server: what its pages show.

It runs in this process, so that the password and the broker's URL are in no process list.
"""

import logging
import signal
from typing import Any

from celery import Celery
from flower.app import Flower
from flower.options import options
from flower.urls import settings as web_settings
from structlog.stdlib import get_logger

from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.settings import Settings
from dingrelay_workers.flower.access import flower_credentials

COLUMNS = "name,uuid,state,args,kwargs,received,started,runtime,worker,exception"
"""Of the page of tasks. `kwargs` is the client's one-line summary of the job."""

TASKS_KEPT = 100_000
OFFLINE_SECONDS = 600
"""Workers that ended are shown for so long."""

log = get_logger("dingrelay.flower")


def serve(settings: Settings, *, address: str, port: int) -> None:
    """Run Flower until SIGINT or SIGTERM.

    Raises:
        SettingsError: a password is needed and not set.
        OSError: the port is taken.
    """
    options.basic_auth = flower_credentials(settings, address=address)
    options.address, options.port = address, port
    options.tasks_columns = COLUMNS
    options.max_tasks = TASKS_KEPT
    options.purge_offline_workers = OFFLINE_SECONDS
    options.persistent = False
    # It asks the workers once at its start, and calls it a failure that none runs yet.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    celery = Celery("dingrelay-flower", set_as_current=False)
    celery.config_from_object(celery_config(settings))
    flower = Flower(capp=celery, options=options, **web_settings)

    def stop(*_: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    bound = flower.start_http_server()
    log.info("flower_ready", url=f"http://{address}:{bound}", password=bool(options.basic_auth))
    flower.start()
