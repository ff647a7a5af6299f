"""Detects workers that are gone: each sends heartbeats, and one without any is gone.

A job's lease would show it too, but three times as late. The heartbeats come from a thread of their
own, so that a busy event loop is not taken for a dead process.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, scripts
from dingrelay_producers.store.connections import open_sync
from dingrelay_producers.store.record import transition
from dingrelay_producers.store.scripts import Call

_VANISHED = transition("dingrelay_workers.maintenance", "vanished")

TIMEOUT = 6.0
"""Seconds without a sign of life after which a worker counts as gone, and its jobs are free: longer than a
failover of Redis."""
SIGNS = 6
"""Signs of life within the time after which a worker counts as gone."""
SLACK = 0.001
"""Seconds by which sums of floats may be off."""
AT_ONCE = 2000
"""Running jobs that one script looks at, so that it does not hold up the server for long."""
HELD = 200
"""Wake-ups of a queue that a worker can have taken from the broker and not claimed: as many as it
runs jobs at once, and it takes 20 in one round trip. Beyond that they are found after a grace."""

log = get_logger("dingrelay.presence")


class Watch:
    """Decides from the heartbeats of all workers which of them are gone.

    Only this process's monotonic clock counts, and only time in which it watched: between two checks
    at most two heartbeats are missed, however late the second one is. After a silence of Redis, or a
    stall of this process, all get their full time again.

    Args:
        timeout: seconds without a sign after which a worker is gone, unless it asks for more.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._silent: dict[str, tuple[str, float]] = {}
        self._looked: float | None = None

    def look(self, signs: Mapping[str, str], at: float) -> list[str]:
        """The workers that are gone, given each one's latest sign at this moment in seconds."""
        passed = 0.0 if self._looked is None else at - self._looked
        known = self._silent if 0 < passed <= self._timeout else {}
        passed = min(passed, 2 * self._timeout / SIGNS)
        self._looked = at
        self._silent = {}
        for worker, sign in signs.items():
            before, silent = known.get(worker, ("", 0.0))
            self._silent[worker] = sign, silent + passed if before == sign else 0.0
        return [
            worker
            for worker, (sign, silent) in self._silent.items()
            if silent >= max(self._timeout, _timeout_of(sign)) - SLACK
        ]

    def interrupt(self) -> None:
        """Redis could not be reached."""
        self._looked = None


class Presence:
    """Gives this process's signs of life, and ends the leases of workers that give none.

    Args:
        settings: where Redis is.
        worker: this process, as it owns jobs.
        timeout: seconds that a worker may be silent.
    """

    def __init__(self, settings: Settings, *, worker: str, timeout: float = TIMEOUT) -> None:
        self._worker = worker
        self._timeout = timeout
        self._period = self._timeout / SIGNS
        self._watch = Watch(self._timeout)
        self._beats = 0
        self._address = settings.redis_address
        self._redis: Redis | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="dingrelay-presence", daemon=True)

    def start(self) -> None:
        """Give signs from now on."""
        self._thread.start()

    def stop(self) -> None:
        """This process has released its jobs: its heartbeats are no longer needed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._redis is not None:
            with suppress(RedisError, OSError):  # others will find it gone
                self._redis.hdel(keys.PRESENCE, self._worker)
        self._disconnect()

    def beat(self) -> None:
        """Give one sign, and look at those of the others.

        Raises:
            RedisError: Redis could not be asked.
        """
        self._beats += 1
        sign = f"{self._beats} {self._timeout}"
        with self._connected().pipeline() as pipe:
            pipe.hset(keys.PRESENCE, self._worker, sign)
            pipe.pexpire(keys.PRESENCE, keys.PRESENCE_TTL_MS)
            pipe.hgetall(keys.PRESENCE)
            known: dict[bytes, bytes] = pipe.execute()[-1]
        # Unparsable names are no workers, and must not keep this worker from sending heartbeats.
        signs = {
            name.decode(errors="replace"): last.decode(errors="replace")
            for name, last in known.items()
        }
        for worker in self._watch.look(signs, time.monotonic()):
            self.end_leases(worker, signs[worker])

    def end_leases(self, worker: str, sign: str) -> None:
        """Free what a worker that is gone ran and held, unless it has given another sign since."""
        start, leases = scripts.run(self._connected(), vanished(worker, sign))
        ended = leases
        while start > 0:
            start, leases = scripts.run(self._connected(), vanished(worker, sign, start))
            ended += leases
        if start == 0:
            log.warning("worker_vanished", worker=worker, jobs=ended)

    def _connected(self) -> Redis:
        """Redis by one connection, whose loss is noted: Redis may have been away."""
        if self._redis is None:
            self._redis = open_sync(
                self._address,
                single=True,
                socket_timeout=2 * self._period,
                socket_connect_timeout=2 * self._period,
                retry=Retry(NoBackoff(), 0),
            )
        return self._redis

    def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            redis.close()

    def _live(self) -> None:
        while True:
            try:
                self.beat()
            except (RedisError, OSError) as error:
                self._watch.interrupt()
                self._disconnect()
                log.debug("presence_write_failed", reason=type(error).__name__)
            if self._stopping.wait(self._period):
                return


def vanished(worker: str, sign: str, start: int = 0, count: int = AT_ONCE) -> Call:
    """End a worker's leases that end at `start` (ms) or later, `count` of all running jobs a time.

    Answers where to go on: 0 if that was all, -1 if the worker lives or another one has done it;
    and how many leases were ended.
    """
    return _VANISHED.call([keys.PRESENCE], [worker, sign, start, count, HELD])


def _timeout_of(sign: str) -> float:
    """The timeout in a worker's heartbeat: that of its own settings."""
    try:
        return float(sign.partition(" ")[2])
    except ValueError:
        return 0.0
