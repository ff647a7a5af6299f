"""Which chunk of a campaign somebody is in, found without reading the campaign.

A person's checksum tells the bucket, a row of `IndexRow` of about a hundred people: their checksums,
and the numbers of their chunks. Who has the checksum of somebody else is told apart by the chunk
itself. So the index takes 8 bytes a person, and a question reads a row for each person asked about
and campaign, however large that is.

A campaign is indexed while it is made, in parts of `PART` people, so that this takes the same memory
for any campaign: 8 bytes and some more for each person of a part.
"""

import json
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any
from zlib import crc32

from sqlalchemy import Integer, String, and_, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.message import digest
from dingrelay_workers.campaigns.chunks import Release
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.database import database
from dingrelay_workers.database.database import Database

BUCKET = 128
"""People in a bucket, about: a row of 1 KB, which a database keeps in one page."""
PART = 1 << 20
"""People of a part: 10 MB while it is made."""
_PAIRS = {
    "sqlite": "SELECT json_extract(value, '$[0]') AS campaign, json_extract(value, '$[1]') AS number "
    "FROM json_each(:pairs)",
    "postgresql": "SELECT value ->> 0 AS campaign, CAST(value ->> 1 AS integer) AS number "
    "FROM json_array_elements(CAST(:pairs AS json))",
}
"""Campaigns and chunks as a table, by the dialect. A list of pairs makes PostgreSQL read all chunks and compare each
with each pair, or plan a look into the index for each."""
_BITS = 32
_WORD = 4
"""Bytes of a checksum, and of a number."""


def bits_for(people: int) -> int:
    """How many bits of the checksum tell the bucket, of a campaign to so many people."""
    return max(0, (min(people, PART) // BUCKET).bit_length())


class PeopleIndex:
    """Collects who is in which chunk.

    Args:
        campaign: whose index it is.
        bits: as `bits_for`.
        part: the number of its first part.
    """

    def __init__(self, campaign: str, bits: int, *, part: int = 0) -> None:
        self._campaign = campaign
        self._shift = _BITS - bits
        self._part, self._people = part, 0
        self._empty()

    def add(self, number: int, users: Collection[str]) -> None:
        """These people are in this chunk."""
        checksums, numbers, shift = self._checksums, self._numbers, self._shift
        for user in users:
            checksum = crc32(user.encode())
            bucket = checksum >> shift
            checksums[bucket].append(checksum)
            numbers[bucket].append(number)
        self._people += len(users)

    @property
    def full(self) -> bool:
        """Whether the rows had better be written before more is added."""
        return self._people >= PART

    def rows(self) -> Iterator[dict[str, Any]]:
        """What was added since the last time, as rows."""
        for bucket, checksums in enumerate(self._checksums):
            if checksums:
                yield {
                    "campaign": self._campaign,
                    "bucket": bucket,
                    "part": self._part,
                    "entries": _little(checksums) + _little(self._numbers[bucket]),
                }
        self._part += 1
        self._people = 0
        self._empty()

    def _empty(self) -> None:
        buckets = 1 << (_BITS - self._shift)
        self._checksums = [array("I") for _ in range(buckets)]
        self._numbers = [array("I") for _ in range(buckets)]


async def reached(
    source: Database,
    users: Sequence[str],
    campaigns: Sequence[str],
    content: str | None,
    since: datetime,
) -> tuple[Counter[str], list[tuple[str, Release, list[str]]]]:
    """What these campaigns have to do with the users since a moment.

    Args:
        source: where the campaigns are.
        users: who is asked about.
        campaigns: whose chunks are looked at.
        content: digest of the message; chunks with a message of their own may have another. None:
            any content, and who may have been called counts as called: by a call whose outcome is
            unknown, whenever it was made, and by a campaign that is deleted.
        since: the start of the day.

    Returns:
        By how many of the campaigns somebody was called, and campaign, release and users of chunks
        that have a job.
    """
    called: Counter[str] = Counter()
    coming: list[tuple[str, Release, list[str]]] = []
    if not users or not campaigns:
        return called, coming
    asked = set(users)
    async with source.read() as connection:
        numbers = await chunks_of(connection, users, campaigns)
        rows = await _live(connection, numbers, since, doubtful=content is None)
        found = [(row, asked.intersection(row.users.split(","))) for row in rows]
        here = set[str]().union(*(some for _, some in found))
        kept_out = await _kept_out(connection, numbers, here, doubtful=content is None)
        if content is None:
            for _ in range(len(set(campaigns)) - await _kept(connection, campaigns)):
                called.update(asked)
    for row, some in found:
        if content is not None and row.message is not None and digest(row.message) != content:
            continue
        left = sorted(user for user in some if (row.campaign, user) not in kept_out)
        if row.state == ChunkState.QUEUED:
            coming.append((row.campaign, Release(row.number, row.generation), left))
        elif row.called_at is not None or (row.error or {}).get("class") == "unknown":
            called.update(left)
    return called, [each for each in coming if each[2]]


async def _live(
    connection: AsyncConnection,
    numbers: Mapping[str, Collection[int] | None],
    since: datetime,
    *,
    doubtful: bool,
) -> list[Any]:
    """Those of the chunks that have a job or were called since then, and doubtful ones if asked for.

    Args:
        connection: to the campaigns.
        numbers: campaign → its chunks; None: all of them, since an earlier version made no index.
        since: the start of the day.
        doubtful: with those that ended without a call that is known.
    """
    names = ("campaign", "number", "generation", "state", "users", "message", "called_at", "error")
    wanted = [ChunkRow.state == ChunkState.QUEUED, ChunkRow.called_at >= since]
    if doubtful:
        wanted.append(and_(ChunkRow.state == ChunkState.SETTLED, ChunkRow.called_at.is_(None)))
    live = select(*(getattr(ChunkRow, name) for name in names)).where(or_(*wanted))
    whole = [campaign for campaign, some in numbers.items() if some is None]
    single = [(campaign, each) for campaign, some in numbers.items() for each in some or ()]
    found: list[Any] = []
    for campaigns in database.chunks(whole):
        found += await connection.execute(live.where(ChunkRow.campaign.in_(campaigns)))
    if single:
        pairs = (
            text(_PAIRS[connection.dialect.name])
            .bindparams(pairs=json.dumps(single))
            .columns(campaign=String, number=Integer)
            .subquery("pairs")
        )
        found += await connection.execute(
            live.join(
                pairs,
                and_(pairs.c.campaign == ChunkRow.campaign, pairs.c.number == ChunkRow.number),
            )
        )
    return found


async def _kept_out(
    connection: AsyncConnection,
    campaigns: Collection[str],
    users: Collection[str],
    *,
    doubtful: bool,
) -> set[tuple[str, str]]:
    """Campaign and user, where its call left them out or did not reach them.

    Those for which it is unknown are among them unless they count as called (`doubtful`).
    """
    query = select(OutcomeRow.campaign, OutcomeRow.userid)
    if doubtful:
        query = query.where(OutcomeRow.outcome != OutcomeKind.UNKNOWN)
    found: set[tuple[str, str]] = set()
    for ours, some in product(database.chunks(campaigns), database.chunks(users)):
        rows = await connection.execute(
            query.where(OutcomeRow.campaign.in_(ours), OutcomeRow.userid.in_(some))
        )
        found |= {(campaign, user) for campaign, user in rows}
    return found


async def _kept(connection: AsyncConnection, campaigns: Collection[str]) -> int:
    """How many of the campaigns are there, and are not being deleted."""
    found = 0
    for some in database.chunks(set(campaigns)):
        found += (
            await connection.scalar(
                select(func.count()).where(
                    CampaignRow.id.in_(some), CampaignRow.state != State.CREATING
                )
            )
            or 0
        )
    return found


async def chunks_of(
    connection: AsyncConnection, users: Sequence[str], campaigns: Sequence[str]
) -> dict[str, set[int] | None]:
    """The chunks in which the users may be, by campaign; None for one without an index."""
    rows: list[Any] = []
    for some in database.chunks(campaigns):
        rows += await connection.execute(
            select(CampaignRow.id, CampaignRow.index_bits).where(CampaignRow.id.in_(some))
        )
    alike: dict[int, list[str]] = defaultdict(list)
    numbers: dict[str, set[int] | None] = {}
    for campaign, bits in rows:
        numbers[campaign] = None if bits is None else set()
        if bits is not None:
            alike[bits].append(campaign)
    for bits, ours in alike.items():
        sought: dict[int, list[bytes]] = defaultdict(list)
        for checksum in {crc32(user.encode()) for user in users}:
            sought[checksum >> (_BITS - bits)].append(checksum.to_bytes(_WORD, "little"))
        for some, buckets in product(database.chunks(ours), database.chunks(sought)):
            found = await connection.execute(
                select(IndexRow.campaign, IndexRow.bucket, IndexRow.entries).where(
                    IndexRow.campaign.in_(some), IndexRow.bucket.in_(buckets)
                )
            )
            for campaign, bucket, entries in found:
                known = numbers[campaign]
                assert known is not None
                for word in sought[bucket]:
                    known.update(_numbers(entries, word))
    return numbers


async def forget(connection: AsyncConnection, campaign: str, user: str) -> None:
    """Somebody is in no chunk any more.

    Who has the same checksum by chance is found no more either: one in four thousand millions.
    """
    bits = await connection.scalar(select(CampaignRow.index_bits).where(CampaignRow.id == campaign))
    if bits is None:
        return
    checksum = crc32(user.encode())
    rows = await connection.execute(
        select(IndexRow.part, IndexRow.entries).where(
            IndexRow.campaign == campaign, IndexRow.bucket == checksum >> (_BITS - bits)
        )
    )
    for part, entries in rows.all():
        left = _without(entries, checksum.to_bytes(_WORD, "little"))
        if left != entries:
            await connection.execute(
                update(IndexRow)
                .where(
                    IndexRow.campaign == campaign,
                    IndexRow.bucket == checksum >> (_BITS - bits),
                    IndexRow.part == part,
                )
                .values(entries=left)
            )


def _without(entries: bytes, checksum: bytes) -> bytes:
    """The entries but those of a checksum."""
    half = len(entries) // 2
    kept = [at for at in range(0, half, _WORD) if entries[at : at + _WORD] != checksum]
    return b"".join(entries[start + at : start + at + _WORD] for start in (0, half) for at in kept)


def _numbers(entries: bytes, checksum: bytes) -> Iterator[int]:
    """The chunks of those in a bucket who have the checksum."""
    half = len(entries) // 2
    at = entries.find(checksum, 0, half)
    while at >= 0:
        if at % _WORD == 0:
            yield int.from_bytes(entries[half + at : half + at + _WORD], "little")
        at = entries.find(checksum, at + 1, half)


def _little(words: "array[int]") -> bytes:
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
