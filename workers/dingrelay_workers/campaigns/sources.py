"""Sources of campaigns as they were written: kept for a change, and for a copy.

A request may name people in ways that no draft has, or in more rows than are kept. Its campaign keeps the text and the
rules; those who change or copy it find its people in a file of their userids.
"""

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple, cast

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from dingrelay_producers.client.campaign_documents import Plan
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_tasks.contract import TYPE_FIELD, ContractError
from dingrelay_tasks.sentence import en, writable
from dingrelay_workers.campaigns.audience import people_of
from dingrelay_workers.campaigns.documents import CampaignFields, DraftContent
from dingrelay_workers.campaigns.models import HIDDEN, CampaignRow, ChunkRow
from dingrelay_workers.database.database import Database

LARGEST_FILE = 10_000_000
"""Bytes of a file with people that is kept: some 300,000 rows. A larger one makes a campaign in one request only."""
MOST_PEOPLE = 1_000_000
"""People of a campaign that is changed or copied without the file that named them."""
FILE_NAME, LINES_NAME = "userids.csv", "userids.jsonl"
_PEOPLE = ("everyone", "departments", "pasted")
_OTHERS = ("without", "without_users")
_ALONE = CampaignFields.model_fields.keys()
"""Fields of a campaign beside its people."""


class Written(NamedTuple):
    """The content of a campaign, and its file with people.

    Attributes:
        file_name: empty for no file.
        file_bytes: of the file that is stored, whether it was read or not.
    """

    content: DraftContent
    file: bytes | None = None
    file_name: str = ""
    file_bytes: int = 0

    @property
    def names_people(self) -> bool:
        """Whether it says who gets it."""
        return bool(self.file_name) or any(getattr(self.content, name) for name in _PEOPLE)

    @property
    def without_people(self) -> "Written":
        """The text and the rules alone."""
        rules = self.content.model_dump(include={*_ALONE, "other_messages"})
        return Written(DraftContent.model_validate(rules))

    @property
    def plan(self) -> Plan:
        """The plan of its campaign."""
        content = self.content
        fields: dict[str, Any] = {
            name: getattr(content, name) for name in type(content).model_fields
        }
        recipients = None if self.file is None else io.BytesIO(self.file)
        return cast("Plan", {**fields, "recipients": recipients, "malformed": "skip"})


def kept(plan: Plan) -> tuple[Plan, Written]:
    """The plan, and what of it is kept; a file that is read for that is read from its beginning again."""
    fields = cast("dict[str, Any]", plan)
    users, rows = fields.get("users") or (), fields.get("recipients")
    file, name = None, ""
    if hasattr(rows, "read"):
        plan, file = _read(plan, cast("BinaryIO", rows))
        name = _name_of(rows)
    elif rows is None or isinstance(rows, list | tuple):
        file = _lines([*users, *cast("list[object]", rows or ())])
        name, users = LINES_NAME, ()
    lacks_people = (rows is not None and file is None) or users
    fields_of_draft = {name: fields[name] for name in DraftContent.model_fields if name in fields}
    with suppress(ContractError):  # a client's plan may name more than a request
        if not (lacks_people or any(fields.get(other) for other in _OTHERS)):
            return plan, Written(DraftContent.parse(fields_of_draft), file, name if file else "")
    return plan, Written(
        DraftContent.parse(
            {name: fields_of_draft[name] for name in fields_of_draft.keys() & _ALONE}
        )
    )


async def read(
    database: Database, campaign: str, *, file: bool = True
) -> tuple[CampaignRow, Written]:
    """A campaign, and what it was made of; without the content of its file if that is not asked for.

    Raises:
        CampaignNotFound: there is none with this id.
    """
    query = select(CampaignRow, func.coalesce(func.length(CampaignRow.file), 0))
    query = query.where(CampaignRow.id == campaign).options(undefer(CampaignRow.content))
    if file:
        query = query.options(undefer(CampaignRow.file))
    async with database.read() as connection, AsyncSession(connection) as session:
        row, size = (await session.execute(query)).one_or_none() or (None, 0)
        if row is None or row.state in HIDDEN:
            raise CampaignNotFound(campaign)
        if row.content is not None:
            content = DraftContent.parse(row.content)
            return row, Written(content, row.file if file else None, row.file_name, size)
        varies = select(ChunkRow.number).where(
            ChunkRow.campaign == campaign, ChunkRow.message.is_not(None)
        )
        has_fields = await session.scalar(varies.limit(1)) is not None
    message = row.message if has_fields else _escaped(row.message)
    fields = {name: getattr(row, name) for name in _ALONE - {"message"}}
    return row, Written(DraftContent.parse({**fields, "message": message}))


async def with_people(database: Database, row: CampaignRow, written: Written) -> Written:
    """Sources of a campaign; its people in a file of userids where it does not say who they are.

    Raises:
        CampaignConflict: they are too many for that.
    """
    if written.names_people or not row.chunks:
        return written
    if row.recipients > MOST_PEOPLE:
        problem = en("has more than {:,} people: make another one of their file", MOST_PEOPLE)
        raise CampaignConflict(row.id, problem)
    lines = ["userid"]
    async for users in people_of(database, row.id):
        lines += users
    return written._replace(file="\n".join([*lines, ""]).encode(), file_name=FILE_NAME)


def _read(plan: Plan, source: BinaryIO) -> tuple[Plan, bytes | None]:
    """The plan, and the bytes of its file; None for more than are kept."""
    start = source.tell() if source.seekable() else None
    head = b""
    # A pipe hands out what it has at the moment.
    while len(head) <= LARGEST_FILE and (block := source.read(LARGEST_FILE + 1 - len(head))):
        head += block
    if len(head) <= LARGEST_FILE:
        return cast("Plan", {**plan, "recipients": io.BytesIO(head)}), head
    if start is not None:
        source.seek(start)
        return plan, None
    return cast("Plan", {**plan, "recipients": _Chained(head, source)}), None


class _Chained:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, source: BinaryIO) -> None:
        self._head = io.BytesIO(head)
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._head.read(size) or self._source.read(size)


def _lines(rows: list[object]) -> bytes | None:
    """Rows that a request names one by one, as a file; None for more than are kept, or what is none."""
    users = [{"userid": row} if isinstance(row, str) else row for row in rows]
    try:
        lines = [json.dumps(row, ensure_ascii=False) for row in users if isinstance(row, Mapping)]
        file = "\n".join([*lines, ""]).encode()
    except (TypeError, ValueError):
        return None
    return file if rows and len(lines) == len(rows) and len(file) <= LARGEST_FILE else None


def _name_of(file: Any) -> str:
    name = getattr(file, "name", "")
    return writable(PurePath(name).name)[:255] if isinstance(name, str) and name else FILE_NAME


def _escaped(node: Any) -> Any:
    """A message without fields as a template: braces of its texts are written twice."""
    if isinstance(node, str):
        return node.replace("{", "{{").replace("}", "}}")
    if isinstance(node, list):
        items: list[Any] = node
        return [_escaped(item) for item in items]
    if isinstance(node, dict):
        pairs = cast("dict[str, Any]", node)
        return {
            name: value if name == TYPE_FIELD else _escaped(value) for name, value in pairs.items()
        }
    return node
