"""What campaigns brought somebody near the day's cap is asked anew when the day changes."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.ownership import Ownership
from dingrelay_tasks.context import DailyVerdict
from dingrelay_workers.limiter.daily_limits import DailyLimits, Reach

EVENING = datetime(2026, 11, 24, 15, 59, tzinfo=UTC)
"""One minute before midnight in Beijing."""


async def test_counts_of_campaigns_hold_for_one_day_only(redis: Redis) -> None:
    starts: list[datetime] = []

    def now() -> datetime:
        return EVENING + timedelta(minutes=2 * bool(starts))

    async def reached(
        app: str, users: Sequence[str], names: Sequence[str], content: str | None, since: datetime
    ) -> Reach:
        starts.append(since)
        return Reach(Counter(users) if len(starts) == 1 else Counter())

    async def put(key: str, field: str, value: str) -> None:
        await redis.hset(key, field, value)
        await redis.expire(key, 60)

    for day in ("2026-11-24", "2026-11-25"):
        # One message short of the cap, and a campaign that may have brought it; others asked that before.
        await put(keys.received("a", day), "u1", "499")
        await put(keys.broadcasts("a", day), "campaign", "")
        await put(keys.near_cap("a", day), "u1", "0")
    run = Ownership("job", "worker/1", 1)
    for field, value in (("state", "running"), ("owner", run.owner), ("fence", "1")):
        await put(keys.job(run.job), field, value)
    message = {"msgtype": "text", "text": {"content": "hi"}}
    verdict, _ = await DailyLimits(redis, reached, now=now).reserve("a", run, ["u1"], message)
    assert verdict == DailyVerdict(["u1"])
    assert [each.day for each in starts] == [23, 24], "from midnight in Beijing on"
