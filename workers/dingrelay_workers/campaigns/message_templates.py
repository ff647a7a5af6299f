"""Messages that are kept under a name, from which campaigns are begun."""

import uuid
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlalchemy import delete, insert, select

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.filters import SeenFilter
from dingrelay_producers.client.verbs import Question, verb
from dingrelay_producers.errors import TemplateNotFound
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import AppName, ContractError, Document, SenderName
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns.documents import LONGEST_NAME, NAME
from dingrelay_workers.campaigns.models import LANE, TemplateRow
from dingrelay_workers.campaigns.reach import READ, WRITE, check_permitted, permitted_sender
from dingrelay_workers.database.database import Database, change_rows, narrowed

MOST = 200
"""Templates of an app and a sender."""
LARGEST = 50_000
"""Characters of a message, as JSON."""


class TemplateRequest(Document):
    """A message to be kept. One of the same name, app and sender is replaced."""

    name: Annotated[str, Field(pattern=NAME, min_length=1, max_length=LONGEST_NAME)]
    app: AppName = "default"
    message: dict[str, Any]
    """DingTalk's own `msg` object, complete or not; its texts may hold `{name}` fields."""
    sender: SenderName = ""


class MessageTemplate(BaseModel, from_attributes=True):
    """A message that is kept."""

    id: str
    name: str
    app: str
    sender: str
    message: dict[str, Any]


class MessageTemplates:
    """Templates of messages of the apps and the sender of the actor of the present task.

    Args:
        settings: of this process.
        database: with its tables.
    """

    NOUN = "template"

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def list(self) -> list[MessageTemplate]:
        """The templates that the actor sees, by name."""
        chosen = SeenFilter().of_actor(READ)
        query = narrowed(select(TemplateRow.__table__), TemplateRow, chosen)
        if chosen.sender is not None:
            query = query.where(TemplateRow.sender == chosen.sender)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(TemplateRow.name, TemplateRow.id))
            return [MessageTemplate.model_validate(row) for row in rows]

    async def get(self, template: str, scope: str = READ) -> MessageTemplate:
        """The template with this id.

        Raises:
            TemplateNotFound: there is none, or it is not theirs.
        """
        query = select(TemplateRow.__table__).where(TemplateRow.id == template)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or not current_reach().reaches(scope, app=row.app, sender=row.sender):
            raise TemplateNotFound(template)
        return MessageTemplate.model_validate(row)

    @verb("POST /v1/templates", scope=WRITE, operation="keepTemplate")
    async def keep(self, request: TemplateRequest) -> MessageTemplate:
        """Keep a message as a template."""
        sender = permitted_sender(self._settings, request.app, request.sender)
        if len(str(request.message)) > LARGEST:
            raise ContractError("message", en("may have {:,} characters", LARGEST))
        values = {**request.model_dump(), "sender": sender}
        own = TemplateRow.app == request.app, TemplateRow.sender == sender
        async with self._database.write(f"templates {request.app}") as connection:
            rows = (
                await connection.execute(select(TemplateRow.id, TemplateRow.name).where(*own))
            ).all()
            ids = {row.name: row.id for row in rows}
            template = ids.get(request.name)
            if template is not None:
                await change_rows(connection, TemplateRow, TemplateRow.id == template, **values)
            elif len(ids) >= MOST:
                raise ContractError("name", en("there are {} templates: delete one first", MOST))
            else:
                template = str(uuid.uuid4())
                await connection.execute(insert(TemplateRow), [{**values, "id": template}])
            shown: dict[str, Any] = {"app": request.app, "lane": LANE}
            after = {"name": request.name}
            await audit.record_verb(connection, self.keep, template, after=after, **shown)
        return await self.get(template, WRITE)

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
        async with self._database.write(f"templates {stored.app}") as connection:
            await connection.execute(delete(TemplateRow).where(TemplateRow.id == template))
            shown: dict[str, Any] = {"app": stored.app, "lane": LANE}
            before = {"name": stored.name}
            await audit.record_verb(connection, self.delete, template, before=before, **shown)
