"""Finds the chunk that holds a person without reading the campaign.

A person's checksum selects the bucket, a row of `IndexRow` of about a hundred people: their
checksums, and the numbers of their chunks. The chunk itself resolves equal checksums. So the
index takes 8 bytes a person, and a lookup reads one row for each person and campaign, however
large that is.

A campaign is indexed while it is made, in parts of `PART` people, so that this takes the same memory
for any campaign: 8 bytes and some more for each person of a part.
"""

import sys
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any
from zlib import crc32

from sqlalchemy import Row, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, IndexRow
from dingrelay_workers.database import database
from dingrelay_workers.database.database import change_rows

BUCKET = 128
"""People in a bucket, about: a row of 1 KB, which a database keeps in one page."""
PART = 1 << 20
"""People of a part: 10 MB while it is made."""
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
        """Take the rows that were added since the last time."""
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


async def chunks_of(
    connection: AsyncConnection, users: Sequence[str], campaigns: Sequence[str]
) -> dict[str, set[int] | None]:
    """The chunks in which the users may be, by campaign; None for one without an index."""
    query = select(CampaignRow.id, CampaignRow.index_bits)
    rows = await database.rows_among(connection, query, CampaignRow.id, campaigns)
    alike: dict[int, list[str]] = defaultdict(list)
    numbers: dict[str, set[int] | None] = {}
    for campaign, bits in rows:
        numbers[campaign] = None if bits is None else set()
        if bits is not None:
            alike[bits].append(campaign)
    for bits, indexed in alike.items():
        sought: dict[int, list[bytes]] = defaultdict(list)
        for checksum in {crc32(user.encode()) for user in users}:
            sought[checksum >> (_BITS - bits)].append(checksum.to_bytes(_WORD, "little"))
        for batch, buckets in product(database.chunks(indexed), database.chunks(sought)):
            index_rows = await connection.execute(
                select(IndexRow.campaign, IndexRow.bucket, IndexRow.entries).where(
                    IndexRow.campaign.in_(batch), IndexRow.bucket.in_(buckets)
                )
            )
            for campaign, bucket, entries in index_rows:
                chunk_numbers = numbers[campaign]
                assert chunk_numbers is not None
                for word in sought[bucket]:
                    chunk_numbers.update(_numbers(entries, word))
    return numbers


async def chunks_with(
    connection: AsyncConnection, user: str, campaigns: Sequence[str]
) -> dict[str, Row[Any]]:
    """The chunks with a person, by campaign; those of 0.2.0, which have no index, are looked through."""
    numbers = await chunks_of(connection, [user], campaigns)
    place, contains = tuple_(ChunkRow.campaign, ChunkRow.number), ChunkRow.users.contains
    places = [(campaign, number) for campaign in numbers for number in numbers[campaign] or ()]
    unindexed = [campaign for campaign in numbers if numbers[campaign] is None]
    query, rows = select(ChunkRow.__table__), list[Row[Any]]()
    for batch in database.chunks(places, database.CHUNK // 2):
        rows += await connection.execute(query.where(place.in_(batch)))
    query = query.where(contains(user, autoescape=True))
    rows += await database.rows_among(connection, query, ChunkRow.campaign, unindexed)
    return {row.campaign: row for row in rows if user in row.users.split(",")}


async def forget(connection: AsyncConnection, campaign: str, user: str) -> None:
    """Remove a person from the index.

    Another person with the same checksum is no longer found either: one in four thousand millions.
    """
    bits = await connection.scalar(select(CampaignRow.index_bits).where(CampaignRow.id == campaign))
    if bits is None:
        return
    checksum = crc32(user.encode())
    bucket = IndexRow.campaign == campaign, IndexRow.bucket == checksum >> (_BITS - bits)
    rows = await connection.execute(select(IndexRow.part, IndexRow.entries).where(*bucket))
    for part, entries in rows.all():
        remaining = _without(entries, checksum.to_bytes(_WORD, "little"))
        if remaining != entries:
            same = *bucket, IndexRow.part == part
            await change_rows(connection, IndexRow, *same, entries=remaining)


def _without(entries: bytes, checksum: bytes) -> bytes:
    """The entries but those of a checksum."""
    half = len(entries) // 2
    offsets = [at for at in range(0, half, _WORD) if entries[at : at + _WORD] != checksum]
    return b"".join(
        entries[start + at : start + at + _WORD] for start in (0, half) for at in offsets
    )


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
