"""The scripts of the limiter. They read the server's own clock, unless a test brings the time in us (`time_us`)."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from dingrelay_producers.store import keys
from dingrelay_producers.store.script_functions import Key, Keys, Prelude, script
from dingrelay_producers.store.transitions import PAUSES, PLACES, RESERVATIONS, TIME
from dingrelay_workers.limiter.rules import Rule

_PACKAGE = "dingrelay_workers.limiter"
RULES = Prelude(_PACKAGE, "rules", (TIME,))
_TURNS = Prelude(_PACKAGE, "turns")
_BREAKERS = Prelude(_PACKAGE, "breakers")
_CLOSING = Prelude(
    _PACKAGE,
    "closing",
    (TIME,),
    lambda: {
        "BREAKERS": keys.BREAKERS,
        "ENDED_OUTAGES": keys.ENDED_OUTAGES,
        "ENDED_OUTAGES_TTL": keys.ENDED_OUTAGES_TTL_MS,
    },
)
_ADAPTATION = Prelude(_PACKAGE, "adaptation")


class Limit(NamedTuple):
    """A rule as scripts read it: its burst, its first and its top rate (tokens/s; 0: no limit, only penalties)."""

    burst: int
    first: float
    top: float


def limits_of(rules: Iterable[Rule]) -> list[Limit]:
    """Rules as scripts read them."""
    return [Limit(rule.burst, rule.rate, rule.top) for rule in rules]


class CallLimit(NamedTuple):
    """A limit; `sibling`: every call that takes from its bucket also takes from the others of the call."""

    burst: int
    first: float
    top: float
    sibling: bool


class SlotWaiter(NamedTuple):
    """A waiter for a slot.

    Attributes:
        aged: it has waited long.
        woken: its job if that was woken for this call; empty if not.
    """

    aged: bool
    woken: str
    sender: str


@script(_PACKAGE, RULES, _TURNS, _BREAKERS, _ADAPTATION)
def acquire(
    *,
    index: Key,
    api: Key,
    host: Key,
    app: Key,
    turns: Key,
    in_turn: Key,
    buckets: Keys,
    time_us: int | None,
    lane: str,
    ttl: int,
    longest: int,
    probe_timeout: int,
    answers: int,
    slowest: int,
    quiet: int,
    timeout: int,
    max_wait: float,
    limits: Sequence[CallLimit],
    waiters: Sequence[SlotWaiter],
    costs: Sequence[int],
) -> None:
    """Reserve slots; no waiters at all only ask whether a bucket is paused.

    Each bucket has its limit; each waiter has a cost under each rule, one waiter behind the other. An unused bucket lives for `ttl` (ms). A call that
    was not promised a slot waits for `max_wait` (s) at most. Other times in us: between two probes of a breaker at most
    (`longest`), for a probe's answer, of the slowest of the `answers` that came to this process since it last asked,
    without an answer until the fleet slows down (`quiet`), and until a call times out.
    """


@script(_PACKAGE, RULES, _TURNS, together=True)
def park(
    *,
    turns: Key,
    in_turn: Key,
    parked: Key,
    buckets: Keys,
    lane: str,
    time_us: int | None,
    sender: str,
    ttl: int,
    woken: str | None,
    shared: Key | None,
    recipients: int,
    limits: Sequence[Limit],
    costs: Sequence[int],
) -> None:
    """Estimate when the turn of a job comes that can't wait in its process.

    `woken` is the job if it was woken for a call that it did not make, so that its sender has not had it; `shared` has
    the recipients of parked jobs by lane and sender that share calls with it, where it adds `recipients` to one.
    """


@script(_PACKAGE, RULES)
def penalize(
    *,
    bucket: Key,
    index: Key,
    time_us: int | None,
    ttl: int,
    pause: int,
    reason: str,
    first: float,
    top: float,
    window: float,
    spread: float,
) -> None:
    """Judge a throttling answer, which asks for a `pause` (us); the ways of two calls differ by `spread` (s) at most.

    A rate that may not grow, from `first` to `top`, is not cut either.
    """


@script(_PACKAGE, _CLOSING)
def release(*, holds: Keys) -> None:
    """Release an app from holds of its credentials that it has no more."""


@script(_PACKAGE, RULES, _CLOSING)
def ended(
    *,
    api: Key,
    host: Key,
    hold: Key,
    buckets: Keys,
    time_us: int | None,
    probed: bool,
    sane: bool,
    trial: bool,
    top: float,
    head_start: int,
    remembered: int,
    charged: int | None,
    tokens: float,
    burst: int,
    rate: float,
    ttl: int,
) -> None:
    """A call is over; the first bucket counts calls.

    `probed`: it came out of a pause: its buckets open again, and the next pause is shorter. `sane`: its answer was: the
    breakers before it close, and the rate climbs from a quarter of `top`, as if for `head_start` (us); 0 can't climb.
    `trial`: it was their probe. The host remembers for `remembered` (ms) that it closed. The `charged` bucket, by its
    number, is charged again, by `tokens` of its `burst` at its `rate`.
    """


@script(_PACKAGE, RULES, _BREAKERS)
def sick(
    *,
    of_api: Key,
    of_host: Key,
    of_app: Key,
    all_open: Key,
    time_us: int | None,
    beat: int,
    hold_gap: int,
    probe_timeout: int,
    symptom: str,
    api: str,
    trial: bool,
    api_needs: int,
    host_needs: int,
    host_apis: int,
    code: str,
    hold_apis: int,
    reason: str,
    remembered: int,
    open_ttl: int,
) -> None:
    """Report a call that failed: breakers may open, or wait longer for a probe.

    So many sick answers in a row open the breaker of the API and that of the host, if so many APIs of it gave them; so
    many APIs must refuse the app with one code to hold it. Sick answers are `remembered`, open breakers live for
    `open_ttl` (ms). In us: until the first probe of an outage (`beat`), between two tries of a held app, for a
    probe's answer.
    """


@script(_PACKAGE, PLACES, RULES, _BREAKERS)
def resume_jobs(
    *,
    waiting_jobs: Key,
    places: Key,
    of_api: Key,
    of_host: Key,
    of_app: Key,
    time_us: int | None,
    place: str,
    most: int,
    beat: int,
    hold_gap: int,
    probe_timeout: int,
) -> None:
    """Wake the jobs that wait for the end of an outage, which is named among all `places`; times as of `sick`."""


@script(_PACKAGE, PLACES)
def parked(*, turns: Key, prefix: str, most_senders: int, most_jobs: int) -> None:
    """Count the jobs parked in a lane; the key of a sender's begins with `prefix`."""


@script(_PACKAGE, PAUSES, RULES, _TURNS)
def wake_parked(
    *,
    turns: Key,
    in_turn: Key,
    lanes: Key,
    buckets: Keys,
    time_us: int | None,
    lane: str,
    name: str,
    prefix: str,
    ttl: int,
    carries: bool,
    limits: Sequence[Limit],
) -> None:
    """Wake parked jobs of a lane, which has this `name` among all; the key of a sender's begins with `prefix`.

    `carries`: a call of the API carries several jobs.
    """


@script(_PACKAGE, RESERVATIONS, together=True)
def reserve_daily(
    *,
    users_today: Key,
    departments_today: Key,
    everyone_today: Key,
    record: Key,
    to: Literal["users", "departments", "everyone"],
    job: str,
    owner: str,
    fence: int,
    step: str,
    content: str,
    most: int,
    ttl: int,
    began: int,
    leaves_until: int,
    time_ms: int | None,
    anyway: bool,
    received: str,
    recipients: Sequence[str | int],
) -> None:
    """Reserve the day's silent limits for one call to some `recipients`, users or departments.

    `users_today` has who is called with this content now, `departments_today` which get it today (both → job), and
    `everyone_today` the jobs that send to everyone (→ content). At `most` so many a day: notifications of a user, or
    sends to everyone. The day had `began` for certain then, and its calls leave before `leaves_until` (ms, by the server's clock);
    its keys begin with `received`. `anyway`: whatever they have had.
    """


class AddressedContent(NamedTuple):
    """A user, and the digest of a content."""

    user: str
    content: str


@script(_PACKAGE, RESERVATIONS)
def had_today(
    *,
    everyone_today: Key,
    received: str,
    called: str,
    most: int,
    messages: Sequence[AddressedContent],
) -> None:
    """Look up who has a content today, or gets no more than the `most` of a day.

    Keys of the day begin with `received`, those of who is called with a content now with `called`.
    """


class Count(NamedTuple):
    """A counter, and its total of a process on a day."""

    counter: str
    total: int


@script(_PACKAGE)
def count_month(
    *,
    month: Key,
    reports: Key,
    month_ttl: int,
    reports_ttl: int,
    day: str,
    process: str,
    counts: Sequence[Count],
) -> None:
    """Add what a process has counted on a day to the month; `reports` has what it reported before (ttl in ms)."""
