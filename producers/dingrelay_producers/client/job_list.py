"""Lists of jobs: the newest, from their records in Redis, and those that ended, from the history."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, cast

from redis import Redis

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.in_threads import run
from dingrelay_producers.errors import UnreadableRecord
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS

CHUNK = 500
"""Records that are read in one round trip."""

Place = tuple[int, str]
"""When a job was accepted (ms) and its id."""


class JobList:
    """Jobs that fit a filter, the latest accepted first.

    Redis has the newest `keys.RECENT_JOBS` jobs, whatever their state. The history has all ended
    jobs that were requested from outside. A job that has waited since more than that many were accepted
    after it is in neither list until it ends.

    Args:
        use: asks Redis.
        history: the history; None where it is not installed.
        on_unreadable: called for each record of another release, which is left out.
    """

    def __init__(
        self,
        use: Callable[[Callable[[Redis], Any]], Any],
        history: Any,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
    ) -> None:
        self._use = use
        self._history = history
        self._on_unreadable = on_unreadable

    def find(self, chosen: JobFilter, limit: int) -> list[JobStatus]:
        """Up to so many of them.

        Raises:
            ServiceUnavailable: Redis or the database can't be used.
        """
        if chosen.state in {State.DEAD, State.UNKNOWN}:
            return self._failed(chosen, limit)
        found: list[JobStatus] = []
        last: Place | None = None
        since = chosen.since.timestamp() * 1000 if chosen.since else 0
        for places in self._places(keys.RECENT):
            ids = [job for at, job in places if at >= since]
            found += self._among(ids, chosen)
            last = places[-1]
            if len(found) >= limit or len(ids) < len(places):
                return found[:limit]
        if self._history is not None and len(found) < limit:
            before = (datetime.fromtimestamp(last[0] / 1000, UTC), last[1]) if last else None
            found += run(self._history.list(chosen, before=before, limit=limit - len(found)))
        return found

    def _failed(self, chosen: JobFilter, limit: int) -> list[JobStatus]:
        """Dead or unknown jobs. Redis has an index of them, which goes further back than the newest jobs."""
        found: dict[str, JobStatus] = {}
        for places in self._places(keys.DEAD):
            found |= {each.id: each for each in self._among([job for _, job in places], chosen)}
            if len(found) >= limit:
                break
        if self._history is not None and len(found) < limit:
            kept = run(self._history.list(chosen, before=None, limit=limit))
            older = [each.id for each in kept if each.id not in found]
            found |= {each.id: each for each in self._among(older, chosen)}
        return sorted(found.values(), key=attrgetter("created_at", "id"), reverse=True)[:limit]

    def _places(self, index: str) -> Iterator[list[Place]]:
        """The places of an index, some at a time, the newest first."""
        ids = cast(
            "list[tuple[bytes, float]]",
            self._use(lambda redis: redis.zrange(index, 0, -1, desc=True, withscores=True)),
        )
        for start in range(0, len(ids), CHUNK):
            yield [(int(at), job.decode()) for job, at in ids[start : start + CHUNK]]

    def _among(self, ids: Sequence[str], chosen: JobFilter) -> list[JobStatus]:
        """Those of these jobs that fit, in their order."""
        known = self._read(ids)
        gone = [job for job in ids if job not in known]
        if gone and self._history is not None:
            known |= run(self._history.find(gone))
        fit = {job: known[job] for job in ids if job in known and chosen.takes(known[job])}
        if not chosen.reads_jobs:
            return list(fit.values())
        wanted = self._that_ask_for(list(fit), chosen)
        return [status for job, status in fit.items() if job in wanted]

    def _read(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        answers = self._use(
            lambda redis: scripts.run_many(redis, [record.read(job) for job in ids])
        )
        found: dict[str, JobStatus] = {}
        for job, answer in zip(ids, answers, strict=True):
            fields = record.fields(answer)
            if fields:
                try:
                    found[job] = JobStatus.from_record(job, fields)
                except UnreadableRecord as error:
                    if self._on_unreadable:
                        self._on_unreadable(error)
        return found

    def _that_ask_for(self, ids: Sequence[str], chosen: JobFilter) -> set[str]:
        """Those of the jobs that are for a person, or have a text, by what their records hold."""
        raw: list[list[bytes | None]] = self._use(lambda redis: _payloads(redis, ids))
        found: set[str] = set()
        gone: list[str] = []
        for job, (kind, payload, addresses) in zip(ids, raw, strict=True):
            if payload is None:
                gone.append(job)
            elif _asks_for(kind or b"", payload, addresses, chosen):
                found.add(job)
        if gone and chosen.to is not None and chosen.text is None and self._history is not None:
            found |= run(self._history.to(gone, chosen.to))
        return found


def _payloads(redis: Redis, ids: Sequence[str]) -> Any:
    pipe = redis.pipeline(transaction=False)
    for job in ids:
        pipe.hmget(keys.job(job), ["kind", "payload", "step:addresses"])
    return pipe.execute() if ids else []


def _asks_for(kind: bytes, payload: bytes, addresses: bytes | None, chosen: JobFilter) -> bool:
    text = payload.decode(errors="replace")
    if chosen.text is not None and chosen.text not in text:
        return False
    if chosen.to is None:
        return True
    known = KINDS.get(kind.decode(errors="replace"))
    if known is None or known.outcomes is None:
        return False
    steps = {"addresses": json.loads(addresses)} if addresses else {}
    try:
        return chosen.to in known.outcomes(json.loads(text), steps)
    except (ValueError, KeyError, TypeError, AttributeError):  # malformed, or of another release
        return False
