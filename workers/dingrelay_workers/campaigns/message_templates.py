"""Messages that are kept under a name, from which campaigns are begun."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.campaign_documents import MessageTemplate, TemplateRequest
from dingrelay_producers.client.filters import SeenFilter
from dingrelay_producers.client.verbs import Question, verb
from dingrelay_producers.errors import TemplateConflict, TemplateNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.message import digest
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns.models import LANE, TemplateRow
from dingrelay_workers.campaigns.reach import READ, WRITE, check_permitted, permitted_sender
from dingrelay_workers.database.database import Database, change_rows, narrowed
from dingrelay_workers.database.schema import opened

MOST = 200
"""Templates of an app and a sender."""
LARGEST = 50_000
"""Characters of a message, as JSON."""


class MessageTemplates:
    """Templates of messages of the apps and the sender of the actor of the present task.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
    """

    NOUN = "template"

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database

    async def list(self) -> Sequence[MessageTemplate]:
        """The templates that the actor sees, by name."""
        chosen = SeenFilter().of_actor(READ)
        query = narrowed(select(TemplateRow.__table__), TemplateRow, chosen)
        if chosen.sender is not None:
            query = query.where(TemplateRow.sender == chosen.sender)
        query = query.order_by(TemplateRow.name, TemplateRow.id)
        async with self._opened() as database:
            async with database.read() as connection:
                rows = (await connection.execute(query)).mappings().all()
            return await self._documents(database, rows)

    async def get(self, template: str, scope: str = READ) -> MessageTemplate:
        """The template with this id.

        Raises:
            TemplateNotFound: there is none, or it is not theirs.
        """
        query = select(TemplateRow.__table__).where(TemplateRow.id == template)
        async with self._opened() as database:
            async with database.read() as connection:
                row = (await connection.execute(query)).mappings().one_or_none()
            if row is None or not current_reach().reaches(
                scope, app=row["app"], sender=row["sender"]
            ):
                raise TemplateNotFound(template)
            (document,) = await self._documents(database, [row])
            return document

    @verb("POST /v1/templates", scope=WRITE, operation="keepTemplate")
    async def keep(self, request: TemplateRequest) -> MessageTemplate:
        """Keep a message as a template.

        One of the same name, app and sender is replaced where `replaces` is its revision. Else it is refused (409): read
        that one, or choose another name.
        """
        sender = permitted_sender(self._settings, request.app, request.sender)
        if len(str(request.message)) > LARGEST:
            raise ContractError("message", en("may have {:,} characters", LARGEST))
        async with (
            self._opened() as database,
            database.write(f"templates {request.app}") as connection,
        ):
            template = await self._store(connection, request, sender)
        return await self.get(template, WRITE)

    async def _store(
        self, connection: AsyncConnection, request: TemplateRequest, sender: str
    ) -> str:
        """The id of the template that has the message now; the same message once more changes nothing."""
        values = {**request.model_dump(exclude={"replaces"}), "sender": sender}
        own = TemplateRow.app == request.app, TemplateRow.sender == sender
        query = select(TemplateRow.__table__).where(*own, TemplateRow.name == request.name)
        stored = (await connection.execute(query)).one_or_none()
        if stored is not None:
            template: str = stored.id
            revision = _revision(stored.message)
            if revision == _revision(request.message):
                return template
            if revision != request.replaces:
                raise TemplateConflict(template, revision)
            await change_rows(connection, TemplateRow, TemplateRow.id == template, **values)
        elif request.replaces:
            raise ContractError("replaces", "there is no template of this name any more")
        elif (await connection.scalar(select(func.count()).where(*own)) or 0) >= MOST:
            raise ContractError("name", en("there are {} templates: delete one first", MOST))
        else:
            template = str(uuid.uuid4())
            await connection.execute(insert(TemplateRow), [{**values, "id": template}])
        shown: dict[str, Any] = {"app": request.app, "lane": LANE}
        after = {"name": request.name}
        await audit.record_verb(connection, self.keep, template, after=after, **shown)
        return template

    @verb(
        "DELETE /v1/templates/{id}",
        scope=WRITE,
        question=Question(
            en("Delete this template?"),
            en("Delete it for good"),
            en("Broadcasts that were begun from it stay as they are."),
            ends=True,
        ),
        done=en("The template is deleted."),
    )
    async def delete(self, template: str) -> None:
        """Delete a template; what was begun from it stays."""
        stored = await self.get(template, WRITE)
        check_permitted(stored.app, stored.sender)
        async with (
            self._opened() as database,
            database.write(f"templates {stored.app}") as connection,
        ):
            deletion = delete(TemplateRow).where(TemplateRow.id == template)
            if not (await connection.execute(deletion)).rowcount:
                raise TemplateNotFound(template)
            shown: dict[str, Any] = {"app": stored.app, "lane": LANE}
            before = {"name": stored.name}
            await audit.record_verb(connection, self.delete, template, before=before, **shown)

    def _opened(self) -> AbstractAsyncContextManager[Database]:
        return opened(self._settings, self._database)

    async def _documents(
        self, database: Database, rows: Sequence[RowMapping]
    ) -> Sequence[MessageTemplate]:
        """The templates of rows, with who changed each last, as the audit has it."""
        changes = await audit.AuditService(self._settings, database).changes_of(
            self.NOUN, [row["id"] for row in rows], clock.now() - audit.KEPT
        )
        last = {
            change.object: {"kept_by": change.actor, "kept_at": change.at} for change in changes
        }
        return [
            MessageTemplate.model_validate(
                {**row, "revision": _revision(row["message"]), **last.get(row["id"], {})}
            )
            for row in rows
        ]


def _revision(message: Mapping[str, Any]) -> str:
    return digest(message)[:16]
