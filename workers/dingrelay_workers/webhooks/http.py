"""One request to an endpoint, and what its answer means.

The endpoint is a stranger: it may be slow, silent, endless, or lead elsewhere. So the whole takes a
bounded time, little of the body is read and nothing of it kept, redirects are not followed, and the
address that is connected to is checked (`addresses.py`).
"""

import asyncio
import importlib.metadata
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.webhooks.addresses import AddressRefused, Reachable

READ = 16_384
"""Bytes of a body that are read, so that the connection can be used again. What is longer is not
worth its time: the connection is closed."""
KEEP = 4.0
"""Seconds for which an idle connection is kept: less than common servers keep theirs."""
LONGEST_RETRY_AFTER = timedelta(days=1)
"""The longest pause that an endpoint can ask for."""
GONE = "http_410"
"""The endpoint wants no more, ever."""
THREADS = 64
"""Look-ups at once, of one for each host; one that hangs keeps its thread until the system gives it up."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of one attempt.

    Attributes:
        code: a short machine word, such as ``http_503``.
        reason: one sentence, without anything that the endpoint said.
        status: of HTTP; 0 where there was none.
        retry_after: how long the endpoint wants to be left alone.
    """

    verdict: Literal["taken", "failed"]
    code: str
    reason: str
    status: int = 0
    retry_after: timedelta = timedelta()


_CODES: tuple[tuple[type[Exception], str, str], ...] = (
    (AddressRefused, "address", en("its address is not public, and the settings do not allow it")),
    (TimeoutError, "timeout", en("it did not answer in time")),
    (aiohttp.ClientConnectorDNSError, "dns", en("its host has no address")),
    (aiohttp.ClientConnectorCertificateError, "tls", en("its certificate is not valid")),
    (aiohttp.ClientConnectorSSLError, "tls", en("no TLS connection could be made")),
    (aiohttp.ClientConnectorError, "no_connection", en("it could not be connected to")),
    (aiohttp.ServerDisconnectedError, "cut", en("it closed the connection without an answer")),
    (aiohttp.ClientOSError, "cut", en("the connection broke")),
    (aiohttp.InvalidURL, "no_http", en("it can't be asked by HTTP")),
    (aiohttp.ClientError, "no_http", en("it answered something that is not HTTP")),
    (OSError, "no_connection", en("it could not be connected to")),
    (ValueError, "no_http", en("it can't be asked by HTTP")),
)
"""Codes and texts of failures; the first row that fits. The text holds nothing that came from outside."""


class Sender:
    """Makes requests to endpoints. Use as an async context.

    Args:
        settings: how long one may take, and what may be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.call_timeout
        self._reachable = Reachable.from_settings(settings)
        self._resolver = Resolver()
        self._session: aiohttp.ClientSession | None = None
        version = importlib.metadata.version("dingrelay")
        self._agent = f"dingrelay/{version}"

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Receipt:
        """Post a document.

        Never raises for what the endpoint does.
        """
        answers: list[Receipt] = []
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    await self._post(url, body, headers, answers)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    if answers or isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    # A kept connection may have been closed by the other side.
                    await self._post(url, body, headers, answers)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            # The answer is in the status: a body that is late or broken takes nothing from it.
            return answers[0] if answers else _failure(error)
        return answers[0]

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], answers: list[Receipt]
    ) -> None:
        """Post the document; the answer is there as soon as its status is known."""
        async with self._opened().post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            answers.append(_receipt(response))
            try:
                await response.content.readexactly(READ)
            except asyncio.IncompleteReadError:
                return  # the body is at its end, and the connection can be used again
            finally:
                if not response.content.at_eof():
                    response.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._socket,
                use_dns_cache=False,
                keepalive_timeout=KEEP,
                limit=0,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=False,
                headers={"User-Agent": self._agent, "Content-Type": "application/json"},
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for the address that is connected to next.

        Raises:
            AddressRefused: that may not be reached.
        """
        family, kind, protocol, _, (host, *_) = address
        self._reachable.check(str(host))
        return socket.socket(family, kind, protocol)


def _receipt(response: aiohttp.ClientResponse) -> Receipt:
    status = response.status
    if 200 <= status < 300:
        return Receipt("taken", "taken", "it accepted the notice", status)
    reason = en("it answered {}", status)
    if 300 <= status < 400:
        reason += en(": redirects are not followed")
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    return Receipt("failed", f"http_{status}", reason, status, retry_after)


def _retry_after(text: str) -> timedelta:
    """How long a ``Retry-After`` asks to wait: seconds, or a date (RFC 9110, 10.2.3)."""
    try:
        if text.strip().isdecimal():
            delay = timedelta(seconds=int(text))
        else:
            until = parsedate_to_datetime(text)
            delay = (until if until.tzinfo else until.replace(tzinfo=UTC)) - clock.now()
    except (ValueError, OverflowError, TypeError):
        return timedelta()
    return min(max(delay, timedelta()), LONGEST_RETRY_AFTER)


def _failure(error: Exception) -> Receipt:
    inner = getattr(error, "os_error", None)
    failure = inner if isinstance(inner, AddressRefused) else error
    for cause, code, reason in _CODES:
        if isinstance(failure, cause):
            return Receipt("failed", code, reason)
    raise AssertionError(type(error).__name__)


class Resolver(AbstractResolver):
    """Looks names of hosts up by the system, in threads of its own.

    A name server that does not answer must not hold up the threads in which wake-ups are published.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-names")
        self._under_way: dict[tuple[str, int, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host."""
        key = (host, port, int(family))
        look_up = self._under_way.get(key)
        if look_up is None:
            # All requests to a host share one: a name server that hangs must not take every thread.
            look_up = asyncio.get_running_loop().run_in_executor(
                self._threads,
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family),
            )
            self._under_way[key] = look_up
            look_up.add_done_callback(lambda ended: self._end(key, ended))
        addresses = await asyncio.shield(look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=of_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of_family, _, protocol, _, address in addresses
        ]

    def _end(self, key: tuple[str, int, int], look_up: asyncio.Future[Any]) -> None:
        del self._under_way[key]
        if not look_up.cancelled():
            look_up.exception()  # also where all requests have given up

    async def close(self) -> None:
        """Give the threads up; pending look-ups are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
