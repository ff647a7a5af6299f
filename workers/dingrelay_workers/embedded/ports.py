"""Ports of this machine."""

import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"


def pick(wanted: int, taken: Collection[int] = ()) -> int:
    """The wanted port if nobody listens there and it is not promised; else a free one."""
    if wanted not in taken and _is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
