"""Circuit breakers of the fleet: an outage of DingTalk's concerns all workers, not one job.

There is one for each API of an app, one for each host, and one for an app that is held because
DingTalk refuses it as a whole. `lua/breakers.lua` describes their fields, `lua/acquire.lua` reads
them on the way of every call, and `lua/sick.lua`, `lua/ended.lua` and `lua/release.lua` change them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.scripts import Call, round_trip, run_async
from dingrelay_producers.store.status import WaitsFor
from dingrelay_tasks.sentence import from_text, to_text
from dingrelay_workers.dingtalk.apis import APIS, TOKEN
from dingrelay_workers.limiter import transitions
from dingrelay_workers.limiter.rules import MOST_KNOWN, Rules

MICRO = 1_000_000

BEAT = 1.0
"""Seconds from the beginning of an outage to its first probe; all other times follow from it."""
RARE = 300
"""Beats between two probes at most, in an outage of hours (`lua/breakers.lua`)."""
HOLD_EVERY = 60.0
"""Seconds between two tries of an app that is held."""
ANSWER_MARGIN = 5.0
"""Seconds beyond the longest call after which a probe whose worker died is made by another."""
NEEDED = 5
"""Sick answers in a row that are an outage."""
SIBLINGS = 2
"""APIs of a host that must fail before the host is to blame; one is enough without a connection."""
REFUSERS = 2
"""APIs that must refuse the app, in a row and with one code, before it is held; the token's is enough."""
SLICE = 50
"""Jobs that are woken at a time once an outage is over."""
QUIET = 0.3
"""Beats without any answer after which the fleet slows down; an answer takes 0.05 to 0.2 s."""

MOST_ENDED = 20
"""Outages of the last day that are shown."""

Symptom = Literal["way", "cut", "answer", "held", "unused"]
"""The symptom of a failed call (`lua/sick.lua`)."""

log = get_logger("dingrelay.limiter")


class Circuit(NamedTuple):
    """The breakers that a call passes.

    Attributes:
        name: of the place where jobs wait for them: the app, the API and its host.
        breaker: that of the API.
        host: breaker of its host.
        hold: of the app.
    """

    app: str
    api: str
    host_name: str
    breaker: str
    host: str
    hold: str

    @property
    def name(self) -> str:
        """Name of the set in which jobs wait for its end."""
        return f"{self.app} {self.api} {self.host_name}"

    @property
    def keys(self) -> tuple[str, str, str]:
        """Keys of the scripts."""
        return self.breaker, self.host, self.hold


@dataclass(frozen=True, slots=True)
class Pace:
    """The times that breakers keep, in seconds."""

    beat: float
    hold: float
    call: float

    @property
    def micros(self) -> tuple[int, int, int]:
        """Beat, time between tries of a held app, time to wait for a probe's answer."""
        return (
            round(self.beat * MICRO),
            round(self.hold * MICRO),
            round((self.call + ANSWER_MARGIN) * MICRO),
        )

    @property
    def longest(self) -> int:
        """Microseconds between two probes of any breaker at most."""
        return round(max(self.beat * RARE, self.hold) * MICRO)

    @property
    def quiet(self) -> int:
        """Microseconds without an answer that are unusual."""
        return round(self.beat * QUIET * MICRO)

    @property
    def timeout(self) -> int:
        """Microseconds after which a call has been answered or is reported lost."""
        return round((self.call + self.beat) * MICRO)


class Verdict(NamedTuple):
    """The effect of a reported sick answer.

    Attributes:
        outage: whether it was part of an outage: then the job waits.
        wait: seconds to the next probe.
        opened: the breakers that it opened.
    """

    outage: bool
    wait: float
    opened: tuple[str, ...]


HOST_OF = {api.name: api.dialect for api in APIS}
"""API → the host that serves it, as breakers name it."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker that stands open.

    Attributes:
        scope: ``app:NAME``, ``egress:NAME`` or ``hold:NAME``.
        name: the API, the host, or the digest of the credentials.
        next_probe: when the next call tries.
        probes: how many have failed.
    """

    scope: str
    name: str
    reason: str
    opened_at: datetime
    next_probe: datetime
    probes: int

    def is_of(self, app: str, waits_for: WaitsFor) -> bool:
        """Whether this is what a job of an app waits for."""
        scope, _, name = self.scope.partition(":")
        match waits_for.what:
            case "app":
                return scope == "hold" and name == waits_for.name
            case "host":
                return scope == "egress" and self.name == waits_for.name
            case "api":
                return scope == "app" and name == app and self.name == waits_for.name
            case "pause":
                return False

    def stops(self, app: str, api: str) -> bool:
        """Whether calls of this API by this app wait for it; of no API ("") those of any, where the app is held."""
        scope, _, name = self.scope.partition(":")
        of_app = name == app and (scope == "hold" or self.name == api)
        return of_app or (scope == "egress" and self.name == HOST_OF.get(api))


@dataclass(frozen=True, slots=True)
class EndedOutage:
    """A breaker that stood open, or an app that was held.

    Attributes:
        scope: as that of `BreakerState`, and so is `name`.
    """

    scope: str
    name: str
    reason: str
    opened_at: datetime
    ended_at: datetime


def sick(
    circuit: Circuit,
    pace: Pace,
    symptom: Symptom,
    *,
    trial: bool,
    needed: int,
    code: str = "",
    reason: str,
    now: int | None = None,
) -> Call:
    """Report a call that failed. Answer: `Verdict`."""
    of_api, of_host, of_app = circuit.keys
    beat, hold_gap, probe_timeout = pace.micros
    return transitions.sick(
        of_api=of_api,
        of_host=of_host,
        of_app=of_app,
        all_open=keys.BREAKERS,
        time_us=now,
        beat=beat,
        hold_gap=hold_gap,
        probe_timeout=probe_timeout,
        symptom=symptom,
        api=circuit.api,
        trial=trial,
        api_needs=needed,
        host_needs=NEEDED,
        host_apis=SIBLINGS,
        code=code,
        hold_apis=1 if circuit.api == TOKEN.name else REFUSERS,
        reason=to_text(reason),
        remembered=keys.SICK_TTL_MS,
        open_ttl=keys.BREAKER_TTL_MS,
    )


def resume(circuit: Circuit, pace: Pace, *, now: int | None = None) -> Call:
    """Wake who waits, as far as it is time. Answer: how many, us until the next time or -1."""
    of_api, of_host, of_app = circuit.keys
    beat, hold_gap, probe_timeout = pace.micros
    return transitions.resume_jobs(
        waiting_jobs=keys.outage(circuit.name),
        places=keys.OUTAGES,
        of_api=of_api,
        of_host=of_host,
        of_app=of_app,
        time_us=now,
        place=circuit.name,
        most=SLICE,
        beat=beat,
        hold_gap=hold_gap,
        probe_timeout=probe_timeout,
    )


def verdict(answer: Any) -> Verdict:
    """The answer of `sick`."""
    outage, wait, *opened = answer
    return Verdict(bool(outage), wait / MICRO, tuple(name.decode() for name in opened))


class Breakers:
    """The breakers of the fleet, seen from one process.

    Args:
        redis: where they are.
        rules: name the address that the calls leave from.
        call_timeout: seconds that a call may take.
        hold_every: seconds between two tries of an app that is held.
        credentials: the digest of an app's credentials.
    """

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        *,
        call_timeout: float = 15.0,
        hold_every: float = HOLD_EVERY,
        credentials: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.pace = Pace(BEAT, hold_every, call_timeout)
        self._redis = redis
        self._rules = rules
        self._credentials = credentials
        self._circuits: dict[tuple[str, str, str, str], Circuit] = {}

    @classmethod
    def from_settings(
        cls, redis: Redis, rules: Rules, settings: Settings, apps: CurrentApps
    ) -> "Breakers":
        """The breakers as the settings want them."""
        return cls(
            redis,
            rules,
            call_timeout=settings.call_timeout,
            hold_every=settings.token_circuit,
            credentials=apps.credentials,
        )

    def circuit(self, app: str, api: str, host: str) -> Circuit:
        """The breakers before a call of this API, or of the path by which it is known (`Api.breaker`)."""
        credentials = self._credentials(app)
        circuit = self._circuits.get((app, api, host, credentials))
        if circuit is None:
            if len(self._circuits) >= MOST_KNOWN:
                self._circuits.clear()
            circuit = self._circuits[app, api, host, credentials] = Circuit(
                app,
                api,
                host,
                keys.breaker(f"app:{app}", api),
                keys.breaker(self._rules.egress.scope, host),
                keys.hold(app, credentials),
            )
        return circuit

    def named(self, name: str) -> Circuit:
        """The breakers before calls whose jobs wait in this place (`Circuit.name`)."""
        app, api, host = name.split(" ")
        return self.circuit(app, api, host)

    async def sick(
        self,
        circuit: Circuit,
        symptom: Symptom,
        *,
        trial: bool = False,
        needed: int = NEEDED,
        code: str = "",
        reason: str = "",
    ) -> Verdict:
        """Report to the fleet a call that failed.

        Args:
            circuit: the breakers that it had passed.
            symptom: what was wrong.
            trial: whether it was a probe.
            needed: such answers in a row that open the breaker of the API.
            code: DingTalk's, of a refusal.
            reason: one short phrase.
        """
        call = sick(
            circuit,
            self.pace,
            symptom,
            trial=trial,
            needed=needed,
            code=code,
            reason=reason,
        )
        outcome = verdict(await run_async(self._redis, call))
        for name in outcome.opened:
            event = "app_held" if name == "hold" else "breaker_opened"
            log.warning(event, **_log_fields(circuit, name), reason=reason)
        return outcome

    async def probe_unused(self, circuit: Circuit) -> None:
        """A probe does not leave: another one is needed. If Redis is away, its time runs out there."""
        try:
            await self.sick(circuit, "unused", trial=True)
        except (RedisError, OSError) as error:
            log.warning("limit_update_failed", of="a probe", reason=type(error).__name__)

    def note_closed(self, circuit: Circuit, names: Sequence[bytes]) -> None:
        """Log which of the breakers have closed."""
        for name in names:
            event = "app_released" if name == b"hold" else "breaker_closed"
            log.info(event, **_log_fields(circuit, name.decode()))

    async def forget_other_holds(self, app: str) -> None:
        """DingTalk accepts the app's credentials: release its holds under others, fleet-wide.

        A refusal of a worker that still has the others opens a new hold.
        """
        current_hold, holds_prefix = keys.hold(app, self._credentials(app)), keys.hold(app, "")
        opened: list[Any] = await self._redis.zrange(keys.BREAKERS, 0, -1)
        stale = [
            hold
            for hold in map(bytes.decode, opened)
            if hold.startswith(holds_prefix) and hold != current_hold
        ]
        if stale:
            await run_async(self._redis, transitions.release(holds=stale))
            log.info("app_released", app=app)

    async def resume(self) -> float | None:
        """Wake jobs that wait for the end of an outage, as far as it is time.

        Returns:
            Seconds until the next time; None if no job waits.
        """
        (names,) = await round_trip(self._redis, [("HKEYS", keys.OUTAGES)])
        if isinstance(names, RedisError):
            raise names
        pauses: list[float] = []
        for name in names:
            circuit = self.named(name.decode())
            woken, micros = await run_async(self._redis, resume(circuit, self.pace))
            if woken:
                log.debug("resumed", app=circuit.app, api=circuit.api, jobs=woken)
            if micros >= 0:
                pauses.append(micros / MICRO)
        return min(pauses, default=None)

    async def states(self) -> list[BreakerState]:
        """Every breaker that stands open, and every hold, the oldest first."""
        return await read_breakers(self._redis)


async def read_breakers(redis: Redis) -> list[BreakerState]:
    """Every breaker that stands open, and every hold, the oldest first."""
    members: list[Any] = await redis.zrange(keys.BREAKERS, 0, -1)
    async with redis.pipeline(transaction=False) as pipe:
        for member in members:
            pipe.hmget(member, "opened", "next", "reason", "level")
        answers = await pipe.execute()
    states: list[BreakerState] = []
    for member, (opened, next_, reason, level) in zip(members, answers, strict=True):
        if opened is None:
            continue
        scope, name = _named_in(member)
        states.append(
            BreakerState(
                scope=scope,
                name=name,
                reason=from_text((reason or b"").decode()),
                opened_at=_time_of(opened),
                next_probe=_time_of(next_),
                probes=int(level or 0),
            )
        )
    return states


async def read_ended(redis: Redis) -> list[EndedOutage]:
    """The outages and holds that ended in the last day, the latest first."""
    day = timedelta(milliseconds=keys.ENDED_OUTAGES_TTL_MS)
    oldest = (clock.now() - day).timestamp() * MICRO
    entries: list[Any] = await redis.zrevrangebyscore(
        keys.ENDED_OUTAGES, "+inf", oldest, start=0, num=MOST_ENDED, withscores=True
    )
    ended: list[EndedOutage] = []
    for entry, ended_at in entries:
        key, opened, reason = entry.split(b"\n", 2)
        scope, name = _named_in(key)
        moments = _time_of(opened), _time_of(ended_at)
        ended.append(EndedOutage(scope, name, from_text(reason.decode()), *moments))
    return ended


def _named_in(key: bytes) -> tuple[str, str]:
    """Scope and name of a breaker's key."""
    scope, _, name = key.decode().removeprefix(keys.PREFIX).rpartition(":")
    return scope.removeprefix("breaker:"), name


def _time_of(micros: bytes) -> datetime:
    return datetime.fromtimestamp(float(micros) / MICRO, UTC)


def _log_fields(circuit: Circuit, name: str) -> dict[str, str]:
    """The fields of a line of the log."""
    match name:
        case "hold":
            return {"app": circuit.app}
        case "host":
            return {"host": circuit.host_name}
        case _:
            return {"app": circuit.app, "api": circuit.api}
