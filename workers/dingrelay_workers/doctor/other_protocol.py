"""Finds a Redis that is addressed with TLS and speaks none, or the other way round: neither says so."""

import socket
import ssl

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_tasks.sentence import en
from dingrelay_workers.doctor.causes import CheckResult

TIMEOUT = 2.0
"""Seconds for a connection and its first answer."""
RESP = (b"+", b"-")
"""First bytes of Redis' answers to a PING: PONG, or an error where it wants a password."""


def check_protocol(check: str, address: RedisAddress | None, variable: str) -> CheckResult | None:
    """The result of a check by what the server speaks; None if that is what its address says, or not found out.

    Args:
        check: what was looked at.
        address: of a server that could not be used; None for a RabbitMQ.
        variable: that has the address.
    """
    if address is None or not address.hosts:
        return None
    try:
        with socket.create_connection(address.hosts[0], TIMEOUT) as connection:
            if address.tls and _speaks_plainly(connection):
                advice = en("begin {} with redis:// or sentinel://, or turn TLS on there", variable)
                return CheckResult(check, "failed", en("it speaks no TLS"), advice)
            if not address.tls and _speaks_tls(connection):
                advice = en("begin {} with rediss:// or sentinels://", variable)
                return CheckResult(check, "failed", en("it speaks TLS only"), advice)
    except OSError:  # an error of TLS is one, too
        pass
    return None


def _speaks_plainly(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(1) in RESP


def _speaks_tls(connection: socket.socket) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent over it: what speaks TLS at all is found out.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connection):
        return True
