"""Everything that Celery tells everybody: its events, as Flower would see them."""

import threading
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from dingrelay_chaos.valkey import Valkey


class CeleryEvents:
    """Writes the events into a file, to be searched for secrets."""

    def __init__(self, valkey: Valkey, path: Path) -> None:
        self.path = path
        self._valkey = valkey
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _listen(self) -> None:
        with self.path.open("ab") as out:
            while not self._ending.is_set():
                # Whatever is wrong with Valkey, it is listened to again.
                with suppress(RedisError, OSError), self._valkey.connect() as redis:
                    pubsub = redis.pubsub()
                    pubsub.psubscribe("*")
                    while not self._ending.is_set():
                        message = pubsub.get_message(timeout=0.5)
                        if message and isinstance(message["data"], bytes):
                            out.write(message["data"] + b"\n")
                self._ending.wait(0.2)
