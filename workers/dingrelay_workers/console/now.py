"""How things stand, in a few sentences: is delivery normal, what waits, who is affected, what to do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.outcomes import TONES, Meaning
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import milliseconds
from dingrelay_producers.time_spans import span
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog import estimate
from dingrelay_workers.backlog.documents import counted
from dingrelay_workers.backlog.estimate import BacklogGroup, Tally
from dingrelay_workers.backlog.shown import MOST as MOST_COUNTED
from dingrelay_workers.console.context import ConsoleContext
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.jobs import listing
from dingrelay_workers.console.limits import seen_limits
from dingrelay_workers.console.sentences import START, outage
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.overview import FleetLimits
from dingrelay_workers.limiter.quota import SHARES
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.nouns import NOUNS

LATELY = 900.0
"""Seconds for which a failure says that delivery is not normal."""
OLD = 600.0
"""Seconds that a job may wait before people are said to be affected."""
MOST = 5
"""Outages, lanes and senders that are named."""


@at("/", scope="limits:read", menu=(0, en("Now")))
async def now(visit: Visit) -> web.Response:
    """How things stand."""
    standing = await visit.context.shared.get("standing", lambda: _standing(visit.context))
    standing = await _seen(standing, visit)
    waiting = [await noun.load(part)(visit) for noun in NOUNS for part in noun.first_page]
    return visit.page(
        "now.html",
        sentences=standing.sentences(),
        lanes=standing.lanes,
        now=standing.tally.now,
        months=standing.limits.quota,
        dead=standing.dead,
        waiting=filter(None, waiting),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """The numbers of the first page.

    Attributes:
        dead: jobs that have failed for good, or of which DingTalk's answer was lost.
        lately: those of the last `LATELY`.
    """

    limits: FleetLimits
    tally: Tally
    lanes: Sequence[BacklogGroup]
    dead: int
    lately: int

    def sentences(self) -> list[Meaning]:
        """The answers, the worst first."""
        found = [
            *self._delivery(),
            self._waiting(),
            *self._affected(),
            *self._months(),
            *self._failed(),
        ]
        return sorted(found, key=lambda each: TONES.index(each.tone))

    def _delivery(self) -> list[Meaning]:
        if not self.limits.rules.workers:
            words = en("No worker runs: nothing is sent.")
            return [Meaning("bad", words, START)]
        if self.limits.outages:
            return [outage(each) for each in self.limits.outages[:MOST]]
        if held := self._throttled():
            return held
        if self.lately:
            return []  # `_failed` says so
        return [Meaning("good", en("Delivery is normal."))]

    def _throttled(self) -> list[Meaning]:
        now = self.tally.now
        held = [
            (each, (each.paused_until - now).total_seconds())
            for each in self.limits.buckets
            if each.paused_until and each.paused_until > now
        ]
        return [
            Meaning(
                "doubt",
                en("DingTalk throttles {} ({}): calls go on in {}.", *what, span(max(1.0, left))),
                en("No job is lost."),
            )
            for each, left in held[:MOST]
            for what in [(each.scope.partition(":")[2], each.api)]
        ]

    def _waiting(self) -> Meaning:
        waiting = sum(each.waiting for each in self.lanes)
        if not waiting:
            return Meaning("good", en("Nothing waits."))
        age = max((self._age(each) for each in self.lanes), default=0.0)
        drains = [each.drain_seconds for each in self.lanes if each.waiting]
        if any(each is None for each in drains):
            return Meaning(
                "wait", en("Jobs that wait: {:,}, the oldest for {}.", waiting, span(age))
            )
        through = span(max(1.0, *(each for each in drains if each is not None)))
        words = en(
            "Jobs that wait: {:,}, the oldest for {}; all are through in {}.",
            waiting,
            span(age),
            through,
        )
        return Meaning("wait", words)

    def _affected(self) -> list[Meaning]:
        late = [each for each in self.lanes if each.waiting and self._age(each) > OLD]
        found = [
            Meaning(
                "doubt",
                en(
                    "Jobs of {} in the lane {} wait for {} already.",
                    each.app,
                    each.lane,
                    span(self._age(each)),
                ),
                _held(each),
            )
            for each in late[:MOST]
        ]
        senders: Counter[str] = Counter()
        for group in self.tally.groups:
            senders[group.sender] += group.waiting
        if found and (
            named := [(sender, jobs) for sender, jobs in senders.most_common(1) if sender]
        ):
            sender, jobs = named[0]
            found.append(
                Meaning("wait", en("Most of what waits is of {}: {:,} jobs.", sender, jobs))
            )
        return found

    def _months(self) -> list[Meaning]:
        """Months of which a lane has no call left, or will have none at the pace so far."""
        found: list[Meaning] = []
        for month in self.limits.quota:
            most = month.limit or 0
            lanes = [lane for lane, share in SHARES.items() if most and month.used >= most * share]
            used = f"{month.used:,}", f"{most:,}", counted(month.counts), month.organisation
            if lanes:
                words = en(
                    "{} of {} {} of {} this month are used: no more in {}.", *used, ", ".join(lanes)
                )
                remedy = en(
                    "Book a larger edition and set [quota] edition, then requeue what failed."
                )
                found.append(Meaning("bad", words, remedy))
            elif most and month.expected > most:
                words = en("{} of {} {} of {} this month are used: too few at this pace.", *used)
                remedy = en("Put many people into one message, or book a larger edition.")
                found.append(Meaning("doubt", words, remedy))
        return found

    def _failed(self) -> list[Meaning]:
        if not self.dead:
            return []
        words = en("Jobs that have failed for good, or may have happened: {:,}.", self.dead)
        if self.lately:
            words = en(
                "Jobs that have failed for good, or may have happened: {:,}, of these {:,} in the last {}.",
                self.dead,
                self.lately,
                span(LATELY),
            )
        remedy = en("Look at the failed jobs: each code has its remedy there.")
        return [Meaning("bad" if self.lately else "doubt", words, remedy)]

    def _age(self, lane: BacklogGroup) -> float:
        since = lane.since
        return (self.tally.now - since).total_seconds() if since else 0.0


async def _standing(context: ConsoleContext) -> Standing:
    rules = Rules.from_settings(context.settings.limits, context.settings.egress)
    async with asking():
        pace = await overview.read_pace(context.redis, rules)
        limits = await overview.read(context.redis, context.settings, pace)
        tally, lanes = await estimate.read(context.redis, pace, most=MOST_COUNTED)
        dead = await context.redis.zcard(keys.DEAD)
        since = (tally.now.timestamp() - LATELY) * 1000
        lately = await context.redis.zcount(keys.DEAD, since, "+inf")
    return Standing(limits, tally, lanes, dead, lately)


async def _seen(found: Standing, visit: Visit) -> Standing:
    """The part that concerns the apps that the person may see."""
    grant = visit.grant
    if ANY in grant.apps:
        return found
    failed, _ = await visit.context.shared.get(
        ("failed", visit.reach), lambda: listing(visit, failed=True).briefs(JobFilter())
    )
    since = milliseconds(found.tally.now - timedelta(seconds=LATELY)) or 0
    groups = [each for each in found.tally.groups if grant.permits_app(each.app)]
    return Standing(
        limits=seen_limits(found.limits, visit),
        tally=replace(found.tally, groups=groups),
        lanes=[each for each in found.lanes if visit.covers(each.app, each.lane)],
        dead=len(failed),
        lately=sum(job.at >= since for job in failed),
    )


def _held(lane: BacklogGroup) -> str:
    match lane.held_by:
        case "worker":
            return en("No worker serves this lane: start one with it among its --lanes.")
        case "outage":
            return en("It waits for the end of an outage; no job is lost.")
        case _:
            return en("It waits for DingTalk's limits; send less at a time, or in another lane.")
