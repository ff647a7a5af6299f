"""A Redis that speaks TLS only, and only with those who show a certificate."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import Authority, Certificate
from servers import free_port, program, running

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
