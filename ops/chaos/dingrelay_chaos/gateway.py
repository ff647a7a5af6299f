"""The HTTP gateway of a run, and a client that knows nothing of it but its URL and a key."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from dingrelay_chaos import ports
from dingrelay_chaos.process import Process, Service

CLI = (sys.executable, "-W", "ignore", "-m", "dingrelay_producers.cli")
START_SECONDS = 60
ANSWER_SECONDS = 8
"""A request is given up after so long; its answer may only be late."""
GIVE_UP_SECONDS = 20
RETRY_SECONDS = 0.3
UPLOADS = 21_100_000
"""Bytes of files that the gateway receives at once, and that may wait in Redis."""
UNANSWERED = frozenset({None, -1, 90_018, 410_100})
"""Codes after which a program posts again: busy, or too fast."""
AGAIN = frozenset({409, 429, 500, 502, 503, 504})
"""Statuses after which a client asks again, with the same key."""


class Gateway(Service):
    """A gateway and those that took its place, at one address and in one log."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._key = ""
        port = ports.reserve()
        self.url = f"http://127.0.0.1:{port}"
        command = [*CLI, "gateway", "--port", str(port)]
        process = Process("gateway", command, folder / "gateway.log")
        uploads = {"DINGRELAY_GATEWAY_UPLOADS": str(UPLOADS)}
        super().__init__("gateway", process, {**environment, **uploads})

    def open(self) -> None:
        """Make a key, and return once the gateway answers.

        Raises:
            TimeoutError: it does not.
        """
        command = [*CLI, "key", "create", "chaos", "--scope", "*", "--json"]
        made = subprocess.run(command, env=self._environment, check=True, stdout=subprocess.PIPE)
        self._key = json.loads(made.stdout)["key"]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.alive:
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"the gateway does not answer; see {self.process.log}")

    def upload(self, content: bytes) -> tuple[int | None, str]:
        """DingTalk's code for a file and its id, once it is answered; None if it never is.

        Raises:
            AssertionError: a gateway that has no room did not say when to ask again.
        """
        form = b'--b\r\nContent-Disposition: form-data; name="media"; filename="a.zip"\r\n\r\n%b\r\n--b--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        key, secret = self._key.split(".")
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                url = f"{self.url}/gettoken?appkey={key}&appsecret={secret}"
                with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                    token = json.load(answer).get("access_token", "")
                url = f"{self.url}/media/upload?type=file&access_token={token}"
                request = urllib.request.Request(url, form % content, headers)
                with urllib.request.urlopen(request, timeout=GIVE_UP_SECONDS) as answer:
                    document = json.load(answer)
                # A gateway that could not ask for its key has given no token.
                if document["errcode"] not in UNANSWERED and token:
                    return document["errcode"], document.get("media_id", "")
            except HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or not error.headers["Retry-After"]:
                    raise AssertionError(f"an upload was answered with {error.code}") from None
            except (OSError, HTTPException, ValueError):
                pass
            time.sleep(RETRY_SECONDS)
        return None, ""

    def alert(self, robot: str, text: str) -> int | None:
        """DingTalk's code for an alert that is posted blindly until it is answered; None if it never is."""
        body = json.dumps({"msgtype": "text", "text": {"content": text}}).encode()
        url = f"{self.url}/robot/send?access_token={robot}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                    code = int(json.load(answer)["errcode"])
            except (OSError, HTTPException, ValueError):
                code = None
            if code not in UNANSWERED:
                return code
            time.sleep(RETRY_SECONDS)
        return None

    def post(self, path: str, document: Mapping[str, Any], once: str) -> tuple[int, Any]:
        """The status and the JSON of the first answer that is final; retried blindly until then.

        Args:
            path: of the API, such as ``/v1/messages``.
            document: the body.
            once: its idempotency key.

        Returns:
            Status 0: none came, and whether it was accepted is not known.
        """
        request = urllib.request.Request(
            self.url + path,
            json.dumps(document).encode(),
            {
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "Idempotency-Key": once,
            },
            method="POST",
        )
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                    return answer.status, json.load(answer)
            except HTTPError as error:
                if error.code not in AGAIN:
                    return error.code, json.load(error)
            except (OSError, HTTPException, ValueError):
                pass  # it died, or its answer did
            time.sleep(RETRY_SECONDS)
        return 0, None
