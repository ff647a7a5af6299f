"""A real Valkey whose clock is the simulation's: time-outs of keys, `TIME` and ids of streams included.

Its commands pass through here. A key's end is set far ahead of the server's own clock (`clock.EPOCH`), so
the server ends none; this deletes those whose virtual time has come before each command. In a script `redis.call` is
ours (`virtual_time.lua`); commands outside of scripts that know time run in a script, too.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import hiredis

from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.network import End

PRELUDE = resources.files("dingrelay_simulation").joinpath("virtual_time.lua").read_text("utf-8")
NOW, ENDS = "{simulation}now", "{simulation}ends"
DIRECT = PRELUDE + "return redis.call(unpack(ARGV))"
SWEEP = """
local server, now = redis, tonumber(ARGV[1])
server.call('SET', '{simulation}now', ARGV[1])
local ms = math.floor(now / 1000)
for _, key in ipairs(server.call('ZRANGE', '{simulation}ends', '-inf', ms, 'BYSCORE')) do
  local ends = server.call('PEXPIRETIME', key)
  if ends < 0 then server.call('ZREM', '{simulation}ends', key)
  elseif ends <= ms then
    server.call('UNLINK', key)
    server.call('ZREM', '{simulation}ends', key)
  else server.call('ZADD', '{simulation}ends', ends, key) end
end
return 1
"""
TAKE = """
local taken = {}
for _, queue in ipairs(KEYS) do
  for _, message in ipairs(redis.call('RPOP', queue, 1000) or {}) do
    taken[#taken + 1] = queue
    taken[#taken + 1] = message
  end
end
return taken
"""
TIMED = frozenset(
    {
        b"EXPIRE",
        b"PEXPIRE",
        b"EXPIREAT",
        b"PEXPIREAT",
        b"SETEX",
        b"PSETEX",
        b"GETEX",
        b"TTL",
        b"PTTL",
        b"TIME",
        b"XADD",
    }
)
"""Commands that know time."""
NOTHING = b"$-1\r\n", b"_\r\n"
"""No element, in the two versions of the protocol."""
_END = b"$3\r\nend\r\n"


def _sha(body: str) -> bytes:
    return hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest().encode()


def _packed(parts: Sequence[Any]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(parts))
    return packed


class Wire:
    """A blocking connection to the real server, in one version of its protocol."""

    def __init__(self, host: str, port: int, version: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(_packed(("HELLO", version)))

    def send(self, data: bytes) -> bytes:
        """The answers to these commands, as they come."""
        self._socket.sendall(data + b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
        answer = b""
        while not answer.endswith(_END):
            answer += self._socket.recv(1 << 20)
        return answer[: -len(_END)]

    def call(self, *parts: Any) -> Any:
        """One command's answer, read."""
        reader = hiredis.Reader()
        reader.feed(self.send(_packed(parts)))
        return reader.gets()

    def close(self) -> None:
        self._socket.close()


class VirtualValkey:
    """The server, as simulated processes reach it.

    Attributes:
        offset: seconds by which its clock is ahead.
        on_published: notified after commands that left messages in queues.
    """

    def __init__(self, host: str, port: int, queues: Sequence[str]) -> None:
        self._wires = {2: Wire(host, port, 2), 3: Wire(host, port, 3)}
        self._scripts: dict[bytes, bytes] = {}
        self._now = -1
        self._saved: list[tuple[bytes, int, bytes]] = []
        self.offset = 0.0
        self.on_published: Callable[[], None] = lambda: None
        self.direct = self._load(DIRECT)
        self._sweep = self._load(SWEEP)
        self._take = self._load(TAKE)
        self._queues = queues
        self._look = _packed(("EXISTS", *queues))
        self._waits: list[Wait] = []

    def _load(self, body: str) -> bytes:
        self._wires[2].call("SCRIPT", "LOAD", body)
        return _sha(body)

    @property
    def micros(self) -> int:
        """Its time, in microseconds since the epoch."""
        return round((CLOCK.true() + self.offset) * 1e6)

    def learn(self, body: str) -> None:
        """Load a script of the product: whether the server knew it before would change the next run."""
        self._scripts[_sha(body)] = self._load(PRELUDE + body)

    def flush(self) -> None:
        """Forget all keys, and who waits."""
        self._waits.clear()
        self._wires[2].call("FLUSHALL")
        self._now = -1

    def call(self, *parts: Any) -> Any:
        """A command of the simulation itself."""
        command = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        passed = self._pass()
        reader = hiredis.Reader()
        reader.feed(self._wires[2].send(passed + _packed(self._rewritten(command))))
        if passed:
            reader.gets()
        return reader.gets()

    def _pass(self) -> bytes:
        """The command that lets its time pass; empty if none has."""
        if (now := self.micros) == self._now:
            return b""
        self._now = now
        return _packed(("EVALSHA", self._sweep, 0, now))

    def execute(self, commands: list[list[bytes]], version: int) -> bytes:
        """The answers to the commands of one write."""
        answer, published = self._execute(commands, version)
        if published:
            self.on_published()
        return answer

    def _execute(self, commands: list[list[bytes]], version: int) -> tuple[bytes, bool]:
        """The answers, and whether messages wait in queues."""
        data = [
            self._pass(),
            *(_packed(self._rewritten(command)) for command in commands),
            self._look,
        ]
        answer = self._wires[version].send(b"".join(data))
        # Before and behind them stand those of our own two: integers of one digit.
        return answer[4 if data[0] else 0 : -4], answer[-3] != ord("0")

    def wait(self, session: "Session", command: list[bytes]) -> None:
        """Let a connection wait for an element of a list: ``BLMOVE``."""
        wait = Wait(session, [b"LMOVE", *command[1:5]])
        self._waits.append(wait)
        if not self._serve(wait):
            asyncio.get_running_loop().call_later(float(command[5]), self._give_up, wait)

    def _serve(self, wait: "Wait") -> bool:
        answer, _ = self._execute([wait.command], wait.session.version)
        if answer in NOTHING:
            return False
        self._waits.remove(wait)
        wait.session.write(answer)
        return True

    def _give_up(self, wait: "Wait") -> None:
        if wait in self._waits:
            self._waits.remove(wait)
            wait.session.write(NOTHING[wait.session.version - 2])

    def serve_waits(self) -> None:
        """Give what there is to those that wait for it, the first of them first."""
        self._waits = [wait for wait in self._waits if not wait.session.closed]
        for wait in list(self._waits):
            self._serve(wait)

    def take(self) -> list[tuple[str, bytes]]:
        """All messages that wait in the queues: (queue, message)."""
        taken = self.call("EVALSHA", self._take, len(self._queues), *self._queues)
        return [(queue.decode(), text) for queue, text in zip(taken[::2], taken[1::2], strict=True)]

    def _rewritten(self, command: list[bytes]) -> list[Any]:
        name = command[0].upper()
        if name == b"EVALSHA":
            return [command[0], self._scripts.get(command[1], command[1]), *command[2:]]
        if name == b"EVAL":
            body = PRELUDE + command[1].decode()
            self._scripts[_sha(command[1].decode())] = _sha(body)
            return [command[0], body, *command[2:]]
        if name in TIMED or (name == b"SET" and len(command) > 3):
            keys = [] if name == b"TIME" else [command[1]]
            return ["EVALSHA", self.direct, len(keys), *keys, name, *command[1:]]
        return command

    def configure(self, name: str, value: str) -> None:
        """Set an option of the server."""
        self._wires[2].call("CONFIG", "SET", name, value)

    def save(self) -> None:
        """Write all that it holds to its disk."""
        wire = self._wires[2]
        if passed := self._pass():
            wire.send(passed)
        saved: list[tuple[bytes, int, bytes]] = []
        for key in sorted(wire.call("KEYS", "*")):
            ends, value = wire.call("PEXPIRETIME", key), wire.call("DUMP", key)
            saved.append((key, max(0, ends), value))
        self._saved = saved

    def restart(self) -> None:
        """Come back with what is on its disk, and with nothing that was written since."""
        wire = self._wires[2]
        wire.call("FLUSHALL")
        for key, ends, value in self._saved:
            wire.call("RESTORE", key, ends, value, "ABSTTL")
        self._now = -1

    def accept(self, end: End | None) -> "Session":
        """A new connection."""
        return Session(self, end)

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()


@dataclass(eq=False)
class Wait:
    """A connection that waits, and the command that ends it."""

    session: "Session"
    command: list[bytes]


class Session:
    """A connection as the server has it."""

    def __init__(self, valkey: VirtualValkey, end: End | None, version: int = 2) -> None:
        self._valkey = valkey
        self._end = end
        self.version = version
        self.closed = False
        self._reader = hiredis.Reader()

    def connection_made(self, transport: Any) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        """No client waits here any more."""
        self.closed = True

    def data_received(self, data: bytes) -> None:
        """Answer what came."""
        if answer := self.answer(data):
            self.write(answer)

    def write(self, answer: bytes) -> None:
        """Send an answer."""
        assert self._end
        self._end.write(answer)

    def answer(self, data: bytes) -> bytes:
        """The answers to commands."""
        self._reader.feed(data)
        commands: list[list[bytes]] = []
        while (command := self._reader.gets()) is not False:
            if command[0].upper() == b"HELLO" and len(command) > 1:
                self.version = int(command[1])
            if command[0].upper() == b"BLMOVE":
                self._valkey.wait(self, command)
            else:
                commands.append(command)
        return self._valkey.execute(commands, self.version) if commands else b""
