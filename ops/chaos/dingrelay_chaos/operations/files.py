"""Files for messages: a program uploads several at once through the drop-in door."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis.exceptions import RedisError

from dingrelay_chaos.gateway import UPLOADS
from dingrelay_chaos.system import System

SIZE = 4_000_000
MOST_MEMORY = 500_000_000
"""Bytes that a gateway has taken at most: as many again for each copy of a file on its way."""


@dataclass(frozen=True, slots=True)
class UploadFiles:
    """Files of different content, all at the same time; together they may be more than may wait."""

    tag: str
    count: int

    def run(self, system: System, step: int) -> None:
        """Upload each until it is answered.

        Raises:
            AssertionError: one was refused, an answered one is not at DingTalk, or memory is not bounded.
        """
        with ThreadPoolExecutor(self.count) as programs:
            answers = list(programs.map(partial(self._upload, system), range(self.count)))
            waiting = _waiting(system)
        known = {medium["id"] for medium in system.sandbox.media()}
        for code, media_id in answers:
            if code not in {None, 0}:
                raise AssertionError(f"a file of {self.tag} was refused: {code}")
            if code == 0 and media_id not in known:
                raise AssertionError(f"a file of {self.tag} was answered and is not at DingTalk")
        if waiting > UPLOADS:
            raise AssertionError(f"files of {waiting} bytes wait in Redis")
        if (taken := _highest(system.gateway.process.pid)) > MOST_MEMORY:
            raise AssertionError(f"the gateway has taken {taken} bytes")

    def _upload(self, system: System, number: int) -> tuple[int | None, str]:
        seed = hashlib.sha256(f"{self.tag} {number}".encode()).digest()
        return system.gateway.upload(seed * (SIZE // len(seed)))


def _waiting(system: System) -> int:
    """Bytes of files in Redis; 0 while it is away."""
    with suppress(RedisError, OSError), system.valkey.connect() as redis:
        return sum(redis.strlen(key) for key in redis.scan_iter("dingrelay:upload:*"))
    return 0


def _highest(pid: int) -> int:
    """Bytes that a process has taken at most so far; 0 if it is gone, or where /proc is not."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1_024
    return 0
