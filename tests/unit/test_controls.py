"""Each option of ``celery worker`` works here or is refused with what to use instead."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.bin.worker import worker as celery_worker

from dingrelay_producers.settings import SettingsError
from dingrelay_workers.celery_worker import controls
from dingrelay_workers.celery_worker.pool import JobPool

REFUSED = [
    (["--autoscale", "8,2"], "-c is how many"),
    (["--autoscale=8"], "-c is how many"),
    (["-B"], "celery beat"),
    (["--max-memory-per-child", "1000"], "supervisor"),
    (["--max-tasks-per-child", "1"], "supervisor"),
    (["--pool-start-method", "spawn"], "supervisor"),
    (["--prefetch-multiplier", "4"], "-c is how many"),
    (["--purge"], "dingrelay job cancel"),
    (["--discard"], "dingrelay job cancel"),
    (["--soft-time-limit", "5"], "DINGRELAY_JOB_TIMEOUT"),
    (["--time-limit", "5"], "DINGRELAY_JOB_TIMEOUT"),
    (["-P", "solo"], "pool of their own"),
    (["-P", "threads"], "pool of their own"),
]
WORKS = [
    [],
    ["-P", "prefork"],
    ["-c", "4"],
    ["-c", "auto"],
    ["-O", "fair"],
    ["-E"],
    ["-Q", "dingrelay.normal,shop"],
    ["-X", "dingrelay.bulk"],
    ["-S", "state.db"],
    ["-n", "one@%h"],
    ["-l", "INFO"],
    ["-D"],
    ["-I", "json"],
    ["-s", "beat.db"],
    ["--scheduler", "x:Y"],
    ["--disable-prefetch"],
    ["--prefetch-multiplier", "1"],
    ["--without-gossip"],
    ["--without-heartbeat"],
    ["--without-mingle"],
    ["--heartbeat-interval", "5"],
]
OF_EVERY_DAEMON = {"logfile", "pidfile", "uid", "gid", "umask", "executable"}


@pytest.fixture
def app() -> Celery:
    app = Celery("x", set_as_current=False)
    app.conf.worker_pool = f"{JobPool.__module__}:JobPool"
    app.conf.worker_prefetch_multiplier = 1
    return app


def parsed(app: Celery, arguments: list[str]) -> dict[str, Any]:
    """The options as Celery's own command reads them."""
    with celery_worker.make_context(
        "worker", list(arguments), obj=SimpleNamespace(app=app)
    ) as context:
        return dict(context.params)


@pytest.mark.parametrize(("arguments", "error"), REFUSED, ids=str)
def test_useless_options_are_refused(app: Celery, arguments: list[str], error: str) -> None:
    with pytest.raises(SettingsError) as raised:
        controls.check_options(parsed(app, arguments))
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arguments", WORKS, ids=str)
def test_the_others_are_taken(app: Celery, arguments: list[str]) -> None:
    controls.check_options(parsed(app, arguments))


def test_no_option_is_forgotten() -> None:
    tried = {argument.partition("=")[0] for line, _ in REFUSED for argument in line}
    tried |= {argument for line in WORKS for argument in line}
    for option in celery_worker.params:
        if option.name not in OF_EVERY_DAEMON:
            assert tried & set(option.opts), f"{option.name} is neither refused nor tried"


@pytest.mark.parametrize(
    "arguments",
    [["-P", "gevent"], ["-Peventlet"], ["--pool=gevent"], ["-l", "INFO", "--pool", "eventlet"]],
    ids=str,
)
def test_another_pool_is_refused_before_celery_loads_it(arguments: list[str]) -> None:
    with pytest.raises(SettingsError, match="pool of their own"):
        controls.check_pool(arguments)


@pytest.mark.parametrize("arguments", [[], ["-P", "prefork"], ["--pool=prefork"], ["-l", "INFO"]])
def test_celerys_word_for_the_default_pool_is_taken(arguments: list[str]) -> None:
    controls.check_pool(arguments)
