"""A network of a container's own: loopback only, where ports lead to servers of this machine.

So the container finds its servers under the names and ports that they have in production, wherever
they listen here, and reaches nothing else. The program below keeps the network; it ends with its parent.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Self

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CHUNK = 65_536


class Network:
    """The network, while a `with` block lasts.

    Args:
        servers: port there → port on this machine's loopback, or the path of a socket.
    """

    def __init__(self, servers: Mapping[int, int | str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, json.dumps(servers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().strip()
        """The kernel's path of it."""
        assert self.path, "the network could not be made"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)


def _enter(network: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _listeners(ports: list[int]) -> tuple[str, list[socket.socket]]:
    """The path of a new network and sockets that listen in it; this process stays where it was."""
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    inside = os.open("/proc/self/ns/net", os.O_RDONLY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
    _enter(outside)
    return f"/proc/{os.getpid()}/fd/{inside}", listening


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(CHUNK):
            writer.write(content)
            await writer.drain()
    writer.close()


async def _lead(
    server: int | str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Connect a client with a server for as long as one of them stays."""
    try:
        if isinstance(server, int):
            there = await asyncio.open_connection("127.0.0.1", server)
        else:
            there = await asyncio.open_unix_connection(server)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_forward(reader, there[1]), _forward(there[0], writer))


async def _serve(servers: Mapping[str, int | str]) -> None:
    path, listening = _listeners([int(port) for port in servers])
    for listener, server in zip(listening, servers.values(), strict=True):
        await asyncio.start_server(partial(_lead, server), sock=listener)
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
    # Its end is the end of who started this, whatever connections there are.
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
