"""One run: a plan carried out in virtual time, its trace, and what does not hold."""

import asyncio
import gc
import hashlib
import importlib
import json
import logging
import pkgutil
import re
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

import dingrelay_workers
from dingrelay_producers.settings import AppSettings
from dingrelay_producers.settings.robots import RobotSettings
from dingrelay_producers.store import keys, scripts
from dingrelay_producers.store.clock import CLOCK as REDIS_CLOCK
from dingrelay_producers.store.script_functions import DECLARED
from dingrelay_producers.store.states import State
from dingrelay_sandbox.limits import Limits
from dingrelay_sandbox.robots import Robot
from dingrelay_sandbox.windows import Rate
from dingrelay_simulation import clock, reached, upgrade
from dingrelay_simulation.broker import Manners
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.dingtalk import APP
from dingrelay_simulation.faults import Faults
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.loop import Endless, VirtualLoop, in_process
from dingrelay_simulation.network import DINGTALK, End
from dingrelay_simulation.operations import Operations
from dingrelay_simulation.oracle import verify
from dingrelay_simulation.oracle.evidence import (
    RECORDED,
    Effect,
    Evidence,
    Month,
    Violation,
    read_tag,
)
from dingrelay_simulation.plan import SECONDS, Plan
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_workers.limiter.quota import CALLS
from dingrelay_workers.minutes import MINUTES

BEIJING_SECONDS = 8 * 3_600
SETTLE = 1_200.0
"""Virtual seconds after the last fault in which every job must end."""
ENDED = frozenset(str(state) for state in State if state.ended)
"""Events that the product logs once a job has ended."""
LOOK = 1.0
"""Seconds between two looks at the states of jobs."""
WARM = 3
"""Runs after which caches are filled."""
LONGEST = 20.0
"""Seconds for which a run waits for its longest fault to pass; longer ones are ended."""
_REQUEST_ID = re.compile(rb'"request_?id":\s?"16l([0-9a-f]{10})"|-0000-7000-8000-([0-9A-F]{12})')


@dataclass
class Trace:
    """The events of a run, in order; its hash is the run's.

    Attributes:
        lines: one for each event.
        ends: job → when a worker heard from Redis that it has ended, and which worker.
        pauses: job → when a worker heard that it is put off after a failure, and for how many seconds from then.
        over: what is noted from now on is of tasks that never end, when they are collected.
    """

    lines: list[str] = field(default_factory=list[str])
    ends: dict[str, list[tuple[float, str]]] = field(
        default_factory=dict[str, list[tuple[float, str]]]
    )
    pauses: dict[str, list[tuple[float, float]]] = field(
        default_factory=dict[str, list[tuple[float, float]]]
    )
    over: bool = False

    def note(self, what: str, *values: Any) -> None:
        """Add an event of now."""
        if self.over:
            return
        process = CLOCK.process
        shown = " ".join(str(value) for value in values)
        self.lines.append(f"{CLOCK.now:10.4f} {process.name if process else '-':9} {what} {shown}")

    @property
    def hash(self) -> str:
        """A digest of all of it."""
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=8).hexdigest()


@dataclass
class Result:
    """The end of a run.

    Attributes:
        reached: mutations that would have made a difference, in a source with marks for them.
    """

    plan: Plan
    trace: Trace
    violations: list[Violation]
    jobs: int
    seconds: float
    steps: int
    calls: int
    reached: frozenset[str] = frozenset()


CURRENT: list[Fleet] = []


class Runner:
    """Runs plans, one after the other, on one server."""

    def __init__(self, valkey: VirtualValkey, template: Path) -> None:
        self._valkey = valkey
        self._template = template
        self._runs = 0
        for module in pkgutil.walk_packages(dingrelay_workers.__path__, "dingrelay_workers."):
            if not any(
                part in module.name for part in ("migrations", ".app", "flower", "celery_worker")
            ):
                importlib.import_module(module.name)
        for function in DECLARED:
            valkey.learn(function.script.body)
        # What is here by now stays; what a run leaves behind is collected between two runs.
        gc.disable()
        gc.collect()
        gc.freeze()

    def run(self, plan: Plan) -> Result:
        """Carry a plan out."""
        self._valkey.configure("maxmemory", "0")
        self._valkey.flush()
        self._valkey.offset = plan.world.redis_skew
        clock.begin(plan.seed, plan.world.epoch)
        # A process has one of each; these are shared by all simulated ones.
        MINUTES.__init__()  # type: ignore[misc]
        REDIS_CLOCK.__init__()  # type: ignore[misc]
        trace = Trace()
        loop = VirtualLoop()
        loop.set_exception_handler(lambda _loop, context: None)
        try:
            with logging_to(trace):
                asyncio.set_event_loop(loop)
                return loop.run_until_complete(self._run(loop, plan, trace))
        except Endless as error:
            violation = Violation("endless", str(error))
            trace.note("violation", violation)
            return Result(plan, trace, [violation], 0, CLOCK.now, loop.steps, 0, self._reached())
        finally:
            trace.over = True
            CURRENT.clear()
            asyncio.set_event_loop(None)
            # Round trips of killed workers never end, and hold the clients by which they are found.
            pending: Any = scripts
            pending._PENDING.clear()
            gc.collect()
            self._runs += 1
            if self._runs == WARM:
                gc.freeze()

    async def _run(self, loop: VirtualLoop, plan: Plan, trace: Trace) -> Result:
        fleet = self._fleet(loop, plan)
        CURRENT.append(fleet)
        answered: dict[int, float] = {}
        if plan.world.upgraded:
            upgrade.leave_records(self._valkey)
        async with fleet:
            faults, operations = Faults(fleet, trace.note), Operations(fleet, trace.note)
            if plan.world.upgraded:
                operations.requests.jobs += upgrade.requests()
            _note_answers(fleet, answered)
            for step in plan.faults:
                loop.call_later(step.at, faults.begin, step)
            for step in plan.operations:
                loop.call_later(
                    step.at, operations.perform, step, context=in_process(fleet.producer)
                )
            await asyncio.sleep(_duration(plan))
            CLOCK.process = None
            trace.note("faults end")
            faults.end()
            producer = in_process(fleet.producer)
            await loop.create_task(operations.mend(), context=producer)
            await loop.create_task(_settle(fleet, operations), context=producer)
            found = await loop.create_task(operations.collect(), context=producer)
            attempts = _attempts(fleet, answered)
            evidence = Evidence(
                effects=[each for each in attempts if each.tag and each.verdict == "ok"],
                faults=faults,
                posts=_posts(fleet),
                keys_without_end=_without_end(self._valkey),
                redis_skew=plan.world.redis_skew,
                way=fleet.network.lines[DINGTALK].latency[1],
                ends=trace.ends,
                recalled=_recalled(fleet),
                runs=fleet.runs,
                limit=plan.world.calls,
                call_timeout=fleet.settings.call_timeout,
                settle_delay=fleet.settings.settle_delay,
                attempts=[attempt for attempt in attempts if attempt.tag],
                calls=attempts,
                pauses=trace.pauses,
                month=_month(fleet, answered),
                **found,
            )
            violations = verify(evidence)
            for violation in violations:
                trace.note("violation", violation)
            return Result(
                plan,
                trace,
                violations,
                len(operations.requests.jobs),
                CLOCK.now,
                loop.steps,
                len(fleet.dingtalk.calls),
                self._reached(),
            )

    def _reached(self) -> frozenset[str]:
        noted = self._valkey.call("SMEMBERS", reached.KEY)
        names = reached.MARKS | {name.decode() for name in noted}
        reached.MARKS.clear()
        return frozenset(names)

    def _fleet(self, loop: VirtualLoop, plan: Plan) -> Fleet:
        """The processes and servers of a plan's world."""
        world = plan.world
        window: Any = world.window
        recipients, seconds = world.recipients
        app = {"app_key": APP, "app_secret": "sandbox-secret", "agent_id": "1000001"}
        robot = {"webhook": "https://oapi.dingtalk.com/robot/send?access_token=alerts"}
        fleet = Fleet(
            loop,
            self._valkey,
            {
                "apps": {"default": AppSettings.model_validate(app)},
                "robots": {"alerts": RobotSettings.model_validate(robot)},
                "rules": {
                    "*": {"calls": f"{world.calls}/1s"},
                    "message.send": {"recipients": f"{recipients}/{seconds}s"},
                },
                "lease": world.lease,
                "approvals": {"looks": world.looks},
                "quota": {"edition": "professional"},
                "history": {"days": 0},
            },
            self._template,
            seed=plan.seed,
            limits=Limits(
                window=window, calls=Rate(world.calls, 1), recipients=Rate(recipients, seconds)
            ),
            manners=Manners(*world.broker) if world.broker else None,
            dingtalk_offset=world.dingtalk_skew,
            offsets=world.skews,
            latency=world.latency,
        )
        fleet.dingtalk.state.robots.robots["alerts"] = Robot(token="alerts")
        return fleet


async def _settle(fleet: Fleet, operations: Operations) -> None:
    """Wait until all has come to its end, or the time for that is over."""
    began = CLOCK.now
    while CLOCK.now - began <= SETTLE:
        if fleet.broker.idle and await operations.ended():
            await asyncio.sleep(RECORDED)  # so that the last calls are counted for the month, too
            return
        await asyncio.sleep(LOOK if CLOCK.now - began < 60 else 5 * LOOK)


def _month(fleet: Fleet, answered: dict[int, float]) -> Month:
    """The calls of the month, by the fleet and by DingTalk."""
    months = fleet.valkey.call("KEYS", keys.quota("*", "*"))
    counts = fleet.valkey.call_all([("HGET", month, CALLS) for month in months])
    counted = sum(int(count or 0) for count in counts)
    state: Any = fleet.dingtalk.state
    spoilt = {row["id"] for row in state.audit._calls if row["fault"]}
    answers = [
        (call.remote, None if call.id in spoilt else answered_in_time(fleet, call.id, answered))
        for _, call, _ in fleet.dingtalk.calls
        if call.counted
    ]
    return Month(counted, answers)


def _duration(plan: Plan) -> float:
    """Seconds after which all faults have struck, and most of them have passed."""
    last = max([SECONDS, *(step.at + 1 for step in (*plan.faults, *plan.operations))])
    longest = max(
        (float(step.values.get("seconds") or step.values.get("back") or 0) for step in plan.faults),
        default=0.0,
    )
    return last + min(longest, LONGEST)


def _note_answers(fleet: Fleet, answered: dict[int, float]) -> None:
    """Note when answers of DingTalk's arrive, by the numbers of their calls."""
    on_arrive = fleet.network.on_arrive

    def arrived(end: End, data: bytes | None) -> bool:
        goes_on = on_arrive(end, data)
        if goes_on and data and end.port == DINGTALK and (match := _REQUEST_ID.search(data)):
            answered[int(match[1] or match[2], 16)] = CLOCK.now
        return goes_on

    fleet.network.on_arrive = arrived


def answered_in_time(fleet: Fleet, call: int, answered: dict[int, float]) -> float | None:
    """When the answer of a call came; None if it never did, or when its worker, which stood still, was to give the call up."""
    at = answered.get(call)
    left, _ = fleet.dingtalk.left[call]
    return at if at is not None and at - left < fleet.settings.call_timeout else None


def _attempts(fleet: Fleet, answered: dict[int, float]) -> list[Effect]:
    by_call = {send.call_id: send for send in fleet.dingtalk.state.sends.sends}
    state: Any = fleet.dingtalk.state
    audit = {row["id"]: row for row in state.audit._calls}
    effects: list[Effect] = []
    for at, call, outcome in fleet.dingtalk.calls:
        row = audit.get(call.id)
        if row is None:
            continue
        tag, users = read_tag(call.path, call.payload)
        send = by_call.get(call.id)
        entries = send.entries if send else ()
        sane = outcome.ending == "answer" and row["fault"] in {"", "latency"}
        left, departed = fleet.dingtalk.left[call.id]
        effects.append(
            Effect(
                id=call.id,
                at=at,
                left=left,
                departed=departed,
                worker=call.remote,
                path=call.path,
                tag=tag,
                users=users,
                delivered=tuple(entry.user for entry in entries if not entry.reason),
                dropped={entry.user: entry.reason for entry in entries if entry.reason},
                answered=answered_in_time(fleet, call.id, answered) if sane else None,
                day=int((call.at + BEIJING_SECONDS) // 86_400),
                verdict=row["verdict"],
                spoilt=bool(row["fault"]),
                method=call.method,
                left_on=int((call.at - at + departed + BEIJING_SECONDS) // 86_400),
            )
        )
    return sorted(effects, key=lambda effect: effect.at)


def _recalled(fleet: Fleet) -> dict[int, tuple[str, set[str]]]:
    return {
        send.task_id: (
            json.loads(send.content.message)["text"]["content"],
            {entry.user for entry in send.entries if not entry.reason},
        )
        for send in fleet.dingtalk.state.sends.sends
        if send.recalled
    }


def _posts(fleet: Fleet) -> dict[str, list[float]]:
    """Tag → when it was posted in the group."""
    posts: dict[str, list[float]] = {}
    made = {call.id: at for at, call, _ in fleet.dingtalk.calls}
    for post in fleet.dingtalk.state.robots.posts:
        for tag in sorted(set(re.findall(r"\br\d+\b", str(post["message"])))):
            posts.setdefault(tag, []).append(made[post["call_id"]])
    return posts


PERMANENT = ("dingrelay:taken", "_kombu", "{simulation}", "unacked")


def _without_end(valkey: VirtualValkey) -> list[str]:
    names = sorted(key.decode(errors="replace") for key in valkey.call("KEYS", "*"))
    ends = valkey.call_all([("PEXPIRETIME", name) for name in names])
    return [
        name
        for name, end in zip(names, ends, strict=True)
        if end < 0 and not name.startswith(PERMANENT)
    ]


@contextmanager
def logging_to(trace: Trace) -> Generator[None]:
    """Keep what the product logs in the trace."""

    def keep(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        error = event.pop("exc_info", None)
        # The order of context variables is that of their addresses.
        shown = " ".join(f"{name}={event[name]}" for name in sorted(event) if name != "event")
        if isinstance(error, BaseException):
            shown += f" {type(error).__name__}: {error}"
        trace.note("log", event.get("event"), shown)
        if event.get("event") in ENDED and "id" in event:
            worker = CLOCK.process.name if CLOCK.process else ""
            trace.ends.setdefault(event["id"], []).append((CLOCK.now, worker))
        if event.get("event") == State.RETRYING and CURRENT:
            # It is put off from when Redis notes it, which may be long before its worker hears so.
            seconds = CURRENT[-1].due(event["id"]) - CLOCK.now
            trace.pauses.setdefault(event["id"], []).append((CLOCK.now, seconds))
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            keep,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    yield
