"""The programs of a run: workers, the gateway with a client of it, and the listener to DingTalk's stream."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.error import HTTPError
from urllib.request import Request

import psutil

from dingrelay_chaos.dingtalk import APP_KEY
from dingrelay_chaos.process import Service, dingrelay, reserve, wait_until
from dingrelay_sandbox.admin import SandboxAdmin

CLOCK = Path(__file__).resolve().parents[1] / "clock"
"""The folder whose ``sitecustomize.py`` shifts the clock of a Python process."""
START_SECONDS = 60
ANSWER_SECONDS = 8
"""A request is given up after so long; its answer may only be late."""
GIVE_UP_SECONDS = 20
RETRY_SECONDS = 0.3
UPLOADS = 21_100_000
"""Bytes of files that the gateway receives at once, and that may wait in Redis."""
UNANSWERED = frozenset({-1, 90_018, 410_100})
"""Codes after which a program posts again: busy, or too fast."""
AGAIN = frozenset({409, 429, 500, 502, 503, 504})
"""Statuses after which a client asks again, with the same key."""

TOKEN = "tokenOfTheChaosCallback"
AES_KEY = "chaosChaosChaosChaosChaosChaosChaosChaosCha"
"""AES key of the callback; 43 characters."""
CALLBACK = "/callbacks/dingtalk/default"
DELIVERY = {"scale": 0.1, "redeliveries": 80}
"""DingTalk tries again after 1 s and 3 s more, and a stream after 1.6 s. A stream that is half dead is
given up after a minute, and its events are sent again until then, as DingTalk does."""

DoorKind = Literal["http", "stream"]
Answer = TypeVar("Answer")


class Worker(Service):
    """A ``dingrelay worker`` and those that took its place, in one log; its wall clock may be wrong.

    Attributes:
        skews: (Unix time, seconds): from when on its clock was wrong by so much.
        memory: bytes that the present process held, once a look.
    """

    def __init__(
        self, name: str, environment: Mapping[str, str], concurrency: int, folder: Path
    ) -> None:
        super().__init__(name, ["worker", "-c", str(concurrency)], folder, environment)
        self.skews: list[tuple[float, float]] = []
        self.memory: list[int] = []
        self._unshifted = environment
        self._log_begins = 0
        self._stopping = False

    def start(self, skew: float | None = None) -> None:
        """Start it with a clock that is so wrong (by default as wrong as before), unless it runs.

        One that was asked to end takes its time; `supervise` starts the next one.
        """
        self.wanted = True
        if self.alive:
            return
        if skew is None:
            skew = self.skews[-1][1] if self.skews else 0.0
        self.skews.append((time.time(), skew))
        self.memory.clear()
        self._stopping = False
        self._log_begins = self.log.stat().st_size if self.log.exists() else 0
        self.environment = shifted(self._unshifted, skew)
        self.spawn()

    def terminate(self) -> None:
        """SIGTERM."""
        self.wanted = False
        self._stopping = True
        super().terminate()

    @property
    def ready(self) -> bool:
        """Whether the present process has said so."""
        return self.alive and self._reported_ready()

    def supervise(self) -> None:
        """Start it again if it has ended by itself; note its memory."""
        if self.alive:
            with suppress(psutil.Error):
                self.memory.append(psutil.Process(self.pid).memory_info().rss)
        elif self.wanted:
            # One that never came up found Valkey away; one that was asked to end did so.
            if self._reported_ready() and not self._stopping:
                self.failures.append(f"{self.name} ended with {self.exit_code}")
            self.start()

    def _reported_ready(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return b'"worker_ready"' in log.read()


def shifted(environment: Mapping[str, str], skew: float) -> Mapping[str, str]:
    """The environment of a Python process whose clock is wrong by so many seconds."""
    if not skew:
        return environment
    paths = os.pathsep.join(filter(None, [str(CLOCK), environment.get("PYTHONPATH", "")]))
    return {**environment, "PYTHONPATH": paths, "CHAOS_CLOCK_OFFSET": str(skew)}


class Gateway(Service):
    """A gateway at one address, and a client that knows nothing of it but its URL and a key."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        port = reserve()
        self.url = f"http://127.0.0.1:{port}"
        self._key = ""
        environment = {**environment, "DINGRELAY_GATEWAY_UPLOADS": str(UPLOADS)}
        super().__init__("gateway", ["gateway", "--port", str(port)], folder, environment)

    def open(self) -> None:
        """Make a key, and return once the gateway answers."""
        arguments = ("key", "create", "chaos", "--scope", "*", "--json")
        self._key = json.loads(dingrelay(*arguments, environment=self.environment))["key"]
        wait_until(self._answers, START_SECONDS, f"the gateway does not answer; see {self.log}")

    def _answers(self) -> bool:
        with suppress(OSError):
            urllib.request.urlopen(f"{self.url}/healthz", timeout=1).close()
            return True
        return False

    def upload(self, content: bytes) -> tuple[int | None, str]:
        """DingTalk's code for a file and its id, once it is answered; None if it never is.

        Raises:
            AssertionError: a gateway that has no room did not say when to ask again.
        """
        form = b'--b\r\nContent-Disposition: form-data; name="media"; filename="a.zip"\r\n\r\n%b\r\n--b--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        key, secret = self._key.split(".")

        def ask() -> tuple[int | None, str] | None:
            try:
                url = f"{self.url}/gettoken?appkey={key}&appsecret={secret}"
                token = _json(Request(url)).get("access_token", "")
                url = f"{self.url}/media/upload?type=file&access_token={token}"
                answer = _json(Request(url, form % content, headers), GIVE_UP_SECONDS)
            except HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or not error.headers["Retry-After"]:
                    raise AssertionError(f"an upload was answered with {error.code}") from None
                return None
            # A gateway that could not ask for its key has given no token.
            done = answer["errcode"] not in UNANSWERED and token
            return (answer["errcode"], answer.get("media_id", "")) if done else None

        return _until_answered(ask) or (None, "")

    def alert(self, robot: str, text: str) -> int | None:
        """DingTalk's code for an alert that is posted blindly until it is answered; None if it never is."""
        body = json.dumps({"msgtype": "text", "text": {"content": text}}).encode()
        url = f"{self.url}/robot/send?access_token={robot}"
        request = Request(url, body, {"Content-Type": "application/json"})

        def ask() -> int | None:
            code = int(_json(request)["errcode"])
            return None if code in UNANSWERED else code

        return _until_answered(ask)

    def post(self, path: str, document: Mapping[str, Any], once: str) -> tuple[int, Any]:
        """The status and the JSON of the first answer that is final; retried blindly until then.

        Args:
            path: of the API, such as ``/v1/messages``.
            document: the body.
            once: its idempotency key.

        Returns:
            Status 0: none came, and whether it was accepted is not known.
        """
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        body = json.dumps(document).encode()
        request = Request(self.url + path, body, {**headers, "Idempotency-Key": once})

        def ask() -> tuple[int, Any] | None:
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                    return answer.status, json.load(answer)
            except HTTPError as error:
                return None if error.code in AGAIN else (error.code, json.load(error))

        return _until_answered(ask) or (0, None)


def _json(request: Request, seconds: float = ANSWER_SECONDS) -> Any:
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


def _until_answered(ask: Callable[[], Answer | None]) -> Answer | None:
    """The first answer that is not None. Where the gateway died, or its answer did, it is asked again."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, HTTPException, ValueError):
            if (answer := ask()) is not None:
                return answer
        time.sleep(RETRY_SECONDS)
    return None


class Listener(Service):
    """How the system gets DingTalk's events from the start to the end of a run.

    Either DingTalk pushes them to the gateway, and this process never runs, or it listens to a stream.
    """

    def __init__(self, kind: DoorKind, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__("stream", ["events"], folder, environment)
        self._kind = kind

    def open(self, sandbox: SandboxAdmin, gateway_url: str) -> None:
        """Have DingTalk send events from now on."""
        sandbox.set_delivery(**DELIVERY)
        if self._kind == "http":
            url = gateway_url + CALLBACK
            sandbox.put_callback(url, token=TOKEN, aes_key=AES_KEY, app_key=APP_KEY)
            return
        self.start()
        wait_until(
            lambda: any(e["state"] == "open" and e["subscriptions"] for e in sandbox.streams()),
            START_SECONDS,
            f"no stream is open; see {self.log}",
        )

    def start(self) -> None:
        """Start the process that listens, unless it runs or there is none."""
        if self._kind == "stream":
            super().start()
