"""How things stand, in a few sentences: is delivery normal, what waits, who is affected, what to do.

It says since when, and not for how long: a page on which nothing happens is the same, and is not sent again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.lanes import Pause
from dingrelay_producers.client.outcomes import TONES, Meaning
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import milliseconds
from dingrelay_producers.time_spans import span
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog import estimate
from dingrelay_workers.backlog.console_routes import paused, words_of_pause
from dingrelay_workers.backlog.documents import counted
from dingrelay_workers.backlog.estimate import BacklogGroup, Tally, is_seen
from dingrelay_workers.backlog.shown import MOST as MOST_COUNTED
from dingrelay_workers.console.context import ConsoleContext
from dingrelay_workers.console.declared import at, menu_of
from dingrelay_workers.console.jobs import listing
from dingrelay_workers.console.limits import last_day, robots_of
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.sentences import START, outage
from dingrelay_workers.console.titles import lane_words
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.overview import FleetLimits
from dingrelay_workers.limiter.quota import SHARES
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.roles.scopes import operates

LATELY = 900.0
"""Seconds for which a failure says that delivery is not normal."""
OLD = 600.0
"""Seconds that a job may wait before people are said to be affected."""
MOST = 5
"""Outages, lanes and senders that are named."""


@at("/", scope="limits:read", menu=("operation", 10, en("Now")))
async def now(visit: Visit) -> web.Response:
    """How things stand."""
    if not operates(visit.session.grants):
        return visit.redirect(menu_of(visit.session)[0][1][0][0])
    standing = await visit.context.shared.get("standing", lambda: _standing(visit.context))
    standing = await _seen(standing, visit)
    waiting = [await noun.load(part)(visit) for noun in NOUNS for part in noun.first_page]
    pauses = await paused(visit)

    def pause_of(app: str, lane: str, sender: str) -> Pause | None:
        """The pause that all these jobs are under."""
        return next((pause for pause in pauses if pause.name.has(app, lane, sender)), None)

    sentences = standing.sentences(robots_of(visit), visit.context.only_app)
    sentences += [_paused(pause, visit) for pause in pauses[:MOST]]
    return visit.page(
        "now.html",
        sentences=sorted(sentences, key=lambda meaning: TONES.index(meaning.tone)),
        quarters=await last_day(visit),
        lanes=standing.lanes,
        pauses=pauses,
        pause_of=pause_of,
        senders=standing.senders,
        months=standing.limits.quota,
        dead=standing.dead,
        ended=standing.limits.ended_outages,
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

    def sentences(self, robots: Mapping[str, str], only_app: str) -> list[Meaning]:
        """The answers.

        Args:
            robots: API of a robot's own limit → its name.
            only_app: the app that goes without saying.
        """
        return [
            *self._delivery(robots, only_app),
            self._waiting(),
            *self._affected(only_app),
            *self._months(),
            *self._failed(),
        ]

    def _delivery(self, robots: Mapping[str, str], only_app: str) -> list[Meaning]:
        if not self.limits.rules.workers:
            words = en("No worker runs: nothing is sent.")
            return [Meaning("bad", words, START)]
        troubles = [outage(entry) for entry in self.limits.outages[:MOST]]
        troubles += [
            Meaning(
                "bad",
                en(
                    "No worker serves the {}: {:,} jobs wait.",
                    lane_words(f"{lane.app}:{lane.lane}", only_app),
                    lane.waiting,
                ),
                en("Start one with it among its --lanes."),
            )
            for lane in self.lanes
            if lane.held_by == "worker"
        ]
        if troubles:
            return troubles
        if throttled := self._throttled(robots):
            return throttled
        if self.lately:
            return []  # `_failed` says so
        return [Meaning("good", en("Delivery is normal."))]

    def _throttled(self, robots: Mapping[str, str]) -> list[Meaning]:
        now = self.tally.now
        pauses = [
            (
                bucket.scope.partition(":")[2],
                robots.get(bucket.api, bucket.api),
                bucket.paused_until,
            )
            for bucket in self.limits.buckets
            if bucket.paused_until and bucket.paused_until > now
        ]
        return [
            Meaning(
                "doubt",
                en(
                    "DingTalk throttles {} ({}): calls go on at {}.",
                    app,
                    api,
                    spoken(until, seconds=True),
                ),
                en("No job is lost."),
            )
            for app, api, until in pauses[:MOST]
        ]

    def _waiting(self) -> Meaning:
        waiting = sum(lane.waiting for lane in self.lanes)
        if not waiting:
            return Meaning("good", en("Nothing waits."))
        oldest = min(lane.since or self.tally.now for lane in self.lanes)
        drains = [lane.drain_seconds for lane in self.lanes if lane.waiting]
        known = [drain for drain in drains if drain is not None]
        through = en("All are through in {}.", span(max(1.0, *known))) if known == drains else ""
        words = en("Jobs that wait: {:,}, the oldest since {}.", waiting, spoken(oldest))
        return Meaning("wait", words, through)

    def _affected(self, only_app: str) -> list[Meaning]:
        old = self.tally.now - timedelta(seconds=OLD)
        late = [
            (lane, lane.since)
            for lane in self.lanes
            # Those of a pause, or without a worker, have a sentence already.
            if lane.held_by not in {"pause", "worker"} and lane.since and lane.since < old
        ]
        return [
            Meaning(
                "doubt",
                en(
                    "Jobs in the {} have waited since {}.",
                    lane_words(f"{lane.app}:{lane.lane}", only_app),
                    spoken(since),
                ),
                _held(lane),
            )
            for lane, since in late[:MOST]
        ]

    @property
    def senders(self) -> Sequence[BacklogGroup]:
        """The named senders with most jobs that wait."""
        by_name: dict[tuple[str, str], BacklogGroup] = {}
        for group in self.tally.groups:
            if group.sender and group.waiting:
                name = group.app, group.sender
                by_name.setdefault(name, BacklogGroup(group.app, "", "", group.sender, "")).add(
                    group
                )
        # Rows of as many jobs stay where they are.
        return sorted(by_name.values(), key=lambda sender: (-sender.waiting, sender.sender))[:MOST]

    def _months(self) -> list[Meaning]:
        """Months of which a lane has no call left, or will have none at the pace so far."""
        meanings: list[Meaning] = []
        for month in self.limits.quota:
            most = month.limit or 0
            lanes = [lane for lane, share in SHARES.items() if most and month.used >= most * share]
            used = month.organisation, f"{month.used:,}", f"{most:,}", counted(month.counts)
            if lanes:
                words = en(
                    "{}: {} of {} {} used this month; no more in {}.", *used, ", ".join(lanes)
                )
                remedy = en(
                    "Book a larger edition and set [quota] edition, then requeue what failed."
                )
                meanings.append(Meaning("bad", words, remedy))
            elif most and month.expected > most:
                words = en(
                    "{}: {} of {} {} used this month; at this pace the rest does not last.", *used
                )
                remedy = en("Put many people into one message, or book a larger edition.")
                meanings.append(Meaning("doubt", words, remedy))
        return meanings

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


async def _standing(context: ConsoleContext) -> Standing:
    async with asking():
        pace = await overview.read_pace(context.redis, context.settings)
        limits = await overview.read(context.redis, context.settings, pace)
        tally, lanes = await estimate.read(context.redis, pace, most=MOST_COUNTED)
        dead = await context.redis.zcard(keys.DEAD)
        since = (tally.now.timestamp() - LATELY) * 1000
        lately = await context.redis.zcount(keys.DEAD, since, "+inf")
    return Standing(limits, tally, lanes, dead, lately)


async def _seen(standing: Standing, visit: Visit) -> Standing:
    """The part that concerns the apps that the person may see."""
    if ANY in visit.grant.apps:
        return standing
    failed, _ = await visit.context.shared.get(
        ("failed", visit.reach), lambda: listing(visit, failed=True).briefs(JobFilter())
    )
    since = milliseconds(standing.tally.now - timedelta(seconds=LATELY)) or 0
    return Standing(
        limits=standing.limits.of_actor(visit.context.settings),
        tally=replace(standing.tally, groups=[*filter(is_seen, standing.tally.groups)]),
        lanes=[*filter(is_seen, standing.lanes)],
        dead=len(failed),
        lately=sum(job.at >= since for job in failed),
    )


def _held(lane: BacklogGroup) -> str:
    if lane.held_by == "outage":
        return en("It waits for the end of an outage; no job is lost.")
    return en("It waits for DingTalk's limits; send less at a time, or in another lane.")


def _paused(pause: Pause, visit: Visit) -> Meaning:
    lane = lane_words(pause.id, visit.context.only_app)
    words = en("{}: {}", lane, words_of_pause(visit, pause))
    return Meaning("doubt", words, en("Its jobs wait: resume it, or leave it to go on by itself."))
