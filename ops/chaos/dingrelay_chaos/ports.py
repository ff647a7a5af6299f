"""Ports of this machine that no other run has, even while nothing listens there."""

import random
import socket

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below those that Linux and macOS give to connections that go out."""

_held: list[socket.socket] = []


def reserve() -> int:
    """A port that is this process's until it ends.

    A server of a run is away at times, and the next one must listen at the same address: another
    run must not take it meanwhile. Whoever has the UDP port of a number has reserved the TCP port.
    """
    for port in random.sample(PORTS, len(PORTS)):
        note = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            note.bind((LOOPBACK, port))
            socket.create_server((LOOPBACK, port)).close()
        except OSError:
            note.close()
            continue
        _held.append(note)
        return port
    raise OSError("no port is free")
