"""A real Valkey whose clock is the simulation's: time-outs of keys, `TIME` and ids of streams included.

Its commands pass through here. A key's end is set far ahead of the server's own clock (`clock.EPOCH`), so
the server ends none; this deletes those whose virtual time has come before a command. In a script `redis.call` is
ours (`virtual_time.lua`); commands outside of scripts that know time run in a script, too.

The virtual time is the end of a key: a server that is full still lets that be set.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import hiredis

from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.network import End

PRELUDE = resources.files("dingrelay_simulation").joinpath("virtual_time.lua").read_text("utf-8")
NOW, HISTORY = "{simulation}now", "{simulation}history"
DIRECT = PRELUDE + "return redis.call(unpack(ARGV))"
SWEEP = """
local server, ms = redis, tonumber(ARGV[1])
for _, key in ipairs(server.call('ZRANGE', '{simulation}ends', '-inf', ms, 'BYSCORE')) do
  local ends = server.call('PEXPIRETIME', key)
  server.call('ZREM', '{simulation}ends', key)
  if ends > ms then server.call('ZADD', '{simulation}ends', ends, key)
  elseif ends >= 0 then server.call('UNLINK', key) end
end
return 1
"""
LAST = """
local first = redis.call('ZRANGE', '{simulation}ends', 0, 0, 'WITHSCORES')[2] or 999999999999999
return string.format('end:%d%016.0f', redis.call('EXISTS', unpack(KEYS)), first)
"""
"""Behind the commands of a write: whether messages wait in queues, and when the next key ends, at a fixed length."""
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
_LAST_BEGIN, _LAST_LENGTH = b"$21\r\nend:", 28
_INTEGER_LENGTH = len(b":1\r\n")


def _sha(body: str) -> bytes:
    return hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest().encode()


def _packed(parts: Sequence[Any]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(parts))
    return packed


class Wire:
    """A blocking connection to the real server, in one version of its protocol."""

    def __init__(self, path: Path, version: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.send(_packed(("HELLO", version)))

    def send(self, data: bytes) -> bytes:
        """The answers to these commands, as they come."""
        self._socket.sendall(data + b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
        answer = b""
        while not answer.endswith(_END):
            answer += self._socket.recv(1 << 20)
        return answer[: -len(_END)]

    def exchange(self, data: bytes) -> bytes:
        """The answers to commands, the last of which is `LAST`."""
        self._socket.sendall(data)
        answer = self._socket.recv(1 << 16)
        while not answer[-_LAST_LENGTH:].startswith(_LAST_BEGIN):
            answer += self._socket.recv(1 << 20)
        return answer

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

    def __init__(self, path: Path, queues: Sequence[str]) -> None:
        self._wires = {2: Wire(path, 2), 3: Wire(path, 3)}
        self._scripts: dict[bytes, bytes] = {}
        self._now = -1
        self._next_end = 0
        self._saved: list[tuple[bytes, int, bytes]] = []
        self.offset = 0.0
        self.on_published: Callable[[], None] = lambda: None
        self.direct = self._load(DIRECT)
        self._sweep = self._load(SWEEP)
        self._take = self._load(TAKE)
        self._queues = queues
        self._last = _packed(("EVALSHA", self._load(LAST), len(queues), *queues))
        self._waits: list[Wait] = []
        self.flush()

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
        """Forget all keys, and who waits; the server has room."""
        self._waits.clear()
        wire = self._wires[2]
        wire.call("FLUSHALL")
        wire.call("SET", NOW, "")
        self._now, self._next_end, self._restarts = -1, 0, 0
        self._begin_history()

    def _begin_history(self) -> None:
        """Name the history of its data, as a server does each time that it starts."""
        self._wires[2].call("SET", HISTORY, f"{self._restarts:040x}")

    def call(self, *parts: Any) -> Any:
        """A command of the simulation itself."""
        return self.call_all([parts])[0]

    def call_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several commands of the simulation, in one write."""
        texts = [
            [part if isinstance(part, bytes) else str(part).encode() for part in parts]
            for parts in commands
        ]
        if not texts:
            return []
        reader = hiredis.Reader()
        reader.feed(self._execute(texts, 2)[0])
        return [reader.gets() for _ in commands]

    def execute(self, commands: list[list[bytes]], version: int) -> bytes:
        """The answers to the commands of one write."""
        answer, published = self._execute(commands, version)
        if published:
            self.on_published()
        return answer

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
        sources = list({wait.command[1]: None for wait in self._waits})
        lengths = self.call_all([("LLEN", source) for source in sources])
        filled = {source for source, length in zip(sources, lengths, strict=True) if length}
        for wait in [wait for wait in self._waits if wait.command[1] in filled]:
            self._serve(wait)

    def _execute(self, commands: list[list[bytes]], version: int) -> tuple[bytes, bool]:
        """The answers, and whether messages wait in queues."""
        passed = self._pass()
        pack = hiredis.pack_command
        data = [pack(tuple(self._rewritten(command))) for command in commands]
        answer = self._wires[version].exchange(b"".join([*passed, *data, self._last]))
        last = answer[-_LAST_LENGTH:]
        self._next_end = int(last[-18:-2])
        return answer[len(passed) * _INTEGER_LENGTH : -_LAST_LENGTH], last[9:10] != b"0"

    def _pass(self) -> list[bytes]:
        """The commands that let its time pass; each answers one digit."""
        if (now := self.micros) == self._now:
            return []
        self._now = now
        passed = [_packed(("PEXPIREAT", NOW, now))]
        if now // 1_000 >= self._next_end:
            passed.append(_packed(("EVALSHA", self._sweep, 0, now // 1_000)))
        return passed

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
        self.call("PING")
        saved: list[tuple[bytes, int, bytes]] = []
        for key in sorted(wire.call("KEYS", "*")):
            ends, value = wire.call("PEXPIRETIME", key), wire.call("DUMP", key)
            saved.append((key, max(0, ends), value))
        self._saved = saved

    def restart(self, *, forgets: bool) -> None:
        """Come back with all that it had, or with what is on its disk and nothing that was written since."""
        wire, restarts = self._wires[2], self._restarts + 1
        # A full server loads all the same.
        _, memory = wire.call("CONFIG", "GET", "maxmemory")
        self.configure("maxmemory", "0")
        if forgets:
            self.flush()
            for key, ends, value in self._saved:
                wire.call("RESTORE", key, ends, value, "ABSTTL", "REPLACE")
        self._restarts = restarts
        self._begin_history()
        self.configure("maxmemory", memory.decode())

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
