"""Estimates what a campaign will take, before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dingrelay_workers.campaigns.quiet import QuietHours
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, USER
from dingrelay_workers.limiter.quota import SHARES
from dingrelay_workers.limiter.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a campaign is.

    Attributes:
        recipients: people, each once.
        calls: one a chunk.
        plain_calls: how many it would be if all got the same message.
        not_in_directory: people who are looked up at DingTalk before their calls; None where there are
            no look-ups, since the directory was never synced or `[recipients] check` is off.
    """

    recipients: int
    calls: int
    plain_calls: int
    not_in_directory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a campaign of some size takes, with all limits to itself.

    Attributes:
        minutes: of sending.
        limit: what makes it take that long, such as ``5000 recipients in 60 s``; "" for nothing.
        starts_at: when it may send first.
        ends_at: when it is through, after the quiet hours in between.
    """

    minutes: float
    limit: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A campaign's share of the organisation's calls of this month.

    Attributes:
        used: calls that are used already.
        limit: calls of the month; None for no limit.
        share: of the month's calls that this campaign takes; None without a limit.
        fits: whether it gets through before broadcasts have to stop.
    """

    used: int
    limit: int | None
    share: float | None
    fits: bool


def pace(
    size: Size,
    rules: Rules,
    app: str,
    *,
    rate: int | None,
    quiet: QuietHours,
    start: datetime,
) -> Pace:
    """How long it takes at the limits of the app, at the campaign's own rate and at rest.

    Args:
        size: how large it is.
        rules: of the fleet.
        app: whose rules.
        rate: the campaign's own, recipients a minute; None for none.
        quiet: hours in which it rests.
        start: when it may begin.
    """
    spans = [(0.0, ""), *_spans(size, rules, app)]
    if rate is not None:
        spans.append((size.recipients / rate * 60, f"{rate} recipients a minute, its own rate"))
    seconds, limit = max(spans)
    work = timedelta(seconds=seconds)
    return Pace(
        minutes=seconds / 60,
        limit=limit,
        starts_at=quiet.ends(start) or start,
        ends_at=quiet.finish(start, work),
    )


def month(size: Size, *, used: int, limit: int | None) -> Month:
    """What it takes of the organisation's calls, of which a broadcast may not use the last."""
    if limit is None:
        return Month(used=used, limit=None, share=None, fits=True)
    share = size.calls / limit if limit else float("inf")
    fits = used + size.calls <= limit * SHARES["bulk"]
    return Month(used=used, limit=limit, share=share, fits=fits)


def _spans(size: Size, rules: Rules, app: str) -> Sequence[tuple[float, str]]:
    """Seconds that each rule makes it take, and the rule."""
    amounts = {"calls": size.calls, "recipients": size.recipients}
    spans = [
        (amounts[rule.unit] / rule.rate, f"{rule.limit} {rule.unit} in {rule.window:g} s")
        for rule in rules.of(app, MESSAGE_SEND.name)
        if rule.limit is not None
    ]
    look_ups = size.not_in_directory or 0
    return spans + [
        (look_ups / rule.rate, f"{rule.limit} look-ups in {rule.window:g} s")
        for rule in rules.of(app, USER.rule)
        if rule.limit is not None
    ]
