"""A RabbitMQ of a test's own, on loopback, with what newer releases will drop switched off already."""

import os
import shutil
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from certificates import Authority
from conftest import wait_until
from servers import free_port, program, running

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
