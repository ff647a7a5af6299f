"""Gateways on real sockets: in a thread of the test, with keys in memory, or as a process."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import pytest

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.database.database import Database
from dingrelay_workers.gateway.server import listening
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import routes
from dingrelay_workers.http.api_keys import ApiKey, Grant
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.overview import FleetLimits, PublishedRules
from dingrelay_workers.nouns import NOUNS
from support import processes
from support.databases import in_database, prepare
from support.servers import free_port
from support.serving import in_thread


class MemoryKeys:
    """Keys by their text."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.away = self.any_known = False

    def add(self, name: str, *scopes: str, **grant: Any) -> str:
        key_id = f"drk_{name:0<12.12}"
        grant.setdefault("sender", name)
        key = ApiKey(id=key_id, name=name, scopes=frozenset(scopes or {"*"}), **grant)
        self.keys[f"{key_id}.secret"] = key
        return f"{key_id}.secret"

    async def verify(self, presented: str) -> ApiKey | None:
        if self.away:
            raise ServiceUnavailable("the database cannot be reached")
        return self.keys.get(presented)

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        return await self.verify(f"{key_id}.{secret.rpartition('.')[2]}")

    def digest(self, key_id: str, secret: str) -> str:
        return hashlib.sha256(f"{key_id}.{secret}".encode()).hexdigest()

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        matches = digest == self.digest(key_id, "secret")
        return await self.verify(f"{key_id}.secret") if matches else None


class MemoryRates:
    """Lets everybody through but those who are named in `waits`."""

    def __init__(self) -> None:
        self.waits: dict[str, float] = {}

    async def take(self, key: ApiKey) -> float | None:
        return self.waits.get(key.name)


class NoAudit:
    """Keeps nothing."""

    async def note(self, action: str, kind: str, names: Sequence[str], **values: Any) -> None:
        pass


class NoApprovals:
    """No approval is followed."""

    async def get(self, app: str, instance: str) -> None:
        return None


class MemoryBackend(Services):
    """The services of a gateway without SQL and without a limiter."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.rates = MemoryRates()
        self.by_class = {
            **{noun.load(service.part): None for noun in NOUNS for service in noun.services},
            Services: self,
            KeyService: self.keys,
            KeyRates: self.rates,
            AuditService: NoAudit(),
            ApprovalService: NoApprovals(),
        }
        self.scopes: Sequence[str] = ()
        """Scopes of the buckets that are in use."""

    async def limits(self) -> FleetLimits:
        fields = dict.fromkeys(BucketState.__dataclass_fields__, 0)
        fields |= dict.fromkeys(("limit", "ceiling", "paused_until", "horizon"))
        fields |= dict.fromkeys(("api", "unit", "reason"), "")
        buckets = [BucketState(**{**fields, "scope": scope}) for scope in self.scopes]  # type: ignore[arg-type]
        rules = PublishedRules(workers=0, differences=[])
        return FleetLimits(rules=rules, buckets=buckets, outages=[], quota=[])

    def begin(self) -> None:
        pass

    async def settle(self) -> None:
        pass

    async def check(self) -> None:
        if self.keys.away:
            raise ServiceUnavailable("the database cannot be reached")

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def ask(
    port: int,
    method: str,
    path: str,
    body: object = None,
    *,
    key: str | None = None,
    timeout: float = 30,
    **headers: str,
) -> Reply:
    """Make one request; names of headers have underscores, a body that is no bytes is JSON."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    content = None
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, content, sent)
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


class GatewayClient:
    """Asks a gateway; one connection a request."""

    def __init__(self, url: str, backend: MemoryBackend, metrics_port: int = 0) -> None:
        self.url = url
        self._metrics_port = metrics_port
        self.backend = backend
        self.stop: Callable[[], object] = lambda: None
        """Begins to stop it."""
        address = urlsplit(url)
        self.host, self.port = str(address.hostname), int(address.port or 0)

    def metrics(self) -> str:
        """The metrics for Prometheus."""
        with urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as answer:
            content: bytes = answer.read()
        return content.decode()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        **headers: str,
    ) -> Reply:
        return ask(self.port, method, path, body, key=key, **headers)

    def by(self, key: str) -> "Ask":
        """Requests with this key."""
        return partial(self.ask, key=key)


Ask = Callable[..., Reply]
"""Makes a request as `GatewayClient.ask` does, with a key."""


def stored_keys(
    settings: Settings, grants: Iterable[Grant], issuer: Actor | None = None
) -> dict[str, str]:
    """Name → text of new keys in the database, which is migrated before. An administrator who does nothing else issues them."""
    prepare(settings.database)

    async def make(database: Database) -> dict[str, str]:
        store = KeyService(database, timeout=30)
        ACTOR.set(issuer or Actor("python", "root", person="root"))
        return {grant.name: (await store.issue(grant)).key for grant in grants}

    made: dict[str, str] = in_database(settings.database, make)
    return made


@contextmanager
def gateway_process(environment: Mapping[str, str]) -> Iterator[tuple[psutil.Process, int]]:
    """A gateway in a process of its own until the block ends, and its port."""
    with processes.Popen(
        [sys.executable, "-m", "dingrelay_producers.cli", "gateway", "--port", "0"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().split()[-1]).port
        assert port, "the gateway did not start"
        yield psutil.Process(process.pid), port
        process.terminate()


@contextmanager
def body_seconds(seconds: float) -> Iterator[None]:
    """Have bodies arrive within so many seconds, in gateways of this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(routes, "BODY_SECONDS", seconds)
        yield


@contextmanager
def gateway_thread(settings: Settings, kept: Services | None = None) -> Iterator[GatewayClient]:
    """A gateway in a thread with a loop of its own, until the block ends; over `kept` or memory."""
    settings = settings.model_copy(update={"metrics_port": free_port()})
    backend = MemoryBackend()
    with in_thread(listening(settings, kept or backend, "127.0.0.1", 0)) as (url, stop):
        client = GatewayClient(url, backend, settings.metrics_port)
        client.stop = stop
        yield client


BOUNDARY = "----------------------------dingrelay0123456789"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(campaign: object, **files: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """The form's bytes, a piece at a time; `campaign` is JSON, None for a form without it."""
    if campaign is not None:
        yield _head("campaign", "application/json")
        yield json.dumps(campaign).encode() + b"\r\n"
    for name, content in files.items():
        yield _head(name, "text/csv", filename=f"{name}.csv")
        yield from [content] if isinstance(content, bytes) else content
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def _head(name: str, media_type: str, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    ).encode()
