"""The settings with which a command works: of the cell that has what it is about, where there are cells.

Each raises `SettingsError` where a setting is missing or wrong.
"""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dingrelay_producers.errors import CampaignNotFound, DingrelayError, EndpointNotFound

if TYPE_CHECKING:
    from dingrelay_producers.cells.cells import Cells
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.models import CampaignRow
    from dingrelay_workers.database.base import Base
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.outbox.models import EndpointRow


def each_cell(settings: "Settings | None" = None) -> "Cells[Settings]":
    """The settings of each cell."""
    from dingrelay_producers.cells.cells import Cells
    from dingrelay_producers.settings import Settings

    return Cells(settings or Settings.load(), lambda own: own)


def asked(app: str | None, settings: "Settings | None" = None) -> "dict[str, Settings]":
    """Cell → its settings, of the cell that has an app; of all if None.

    Raises:
        ContractError: no cell has the app.
    """
    cells = each_cell(settings)
    return cells.among() if app is None else {cells.name_of(app): cells.of(app)}


def of_app(app: str) -> "Settings":
    """Those of the cell that has an app.

    Raises:
        ContractError: none has it.
    """
    return each_cell().of(app)


def of_apps(apps: Collection[str]) -> "Settings":
    """Those of the one cell that has all these apps; none stands for all apps.

    Raises:
        ContractError: they are in several cells, or one is in none.
    """
    from dingrelay_tasks.contract import ContractError

    cells = each_cell()
    names = {cells.name_of(app) for app in apps} or set(cells.names)
    if len(names) > 1:
        raise ContractError(
            "apps", "must be of one cell: add an endpoint for each cell, with its apps"
        )
    return cells.named(names.pop())


async def of_campaign(campaign: str) -> "Settings":
    """Those of the cell that has a campaign.

    Raises:
        CampaignNotFound: none has it.
        CellUnavailable: one that is away may have it.
    """
    from dingrelay_workers.campaigns.models import CampaignRow

    return await _of(CampaignRow, campaign, CampaignNotFound(campaign))


async def of_endpoint(endpoint: str) -> "Settings":
    """Those of the cell that has an endpoint of webhooks.

    Raises:
        EndpointNotFound: none has it.
        CellUnavailable: one that is away may have it.
    """
    from dingrelay_workers.outbox.models import EndpointRow

    return await _of(EndpointRow, endpoint, EndpointNotFound(endpoint))


async def _of(
    table: "type[CampaignRow | EndpointRow]",
    row: str,
    missing: DingrelayError,
) -> "Settings":
    from sqlalchemy import select

    from dingrelay_producers.cells.holder import holder

    cells = each_cell()
    if len(cells.names) == 1:
        return cells.named(cells.names[0])

    async def holds(own: "Settings") -> bool:
        async with looking(own, table) as database:
            if database is None:
                return False
            query = select(table.id).where(table.id == row)
            async with database.read() as connection:
                return await connection.scalar(query) is not None

    return cells.named(await holder(cells.among(), holds, missing))


@asynccontextmanager
async def looking(settings: "Settings", table: "type[Base]") -> "AsyncGenerator[Database | None]":
    """A database to look something up in, while the block runs; None if it has no such table.

    Raises:
        ServiceUnavailable: the database can't be used, or is not there.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from dingrelay_workers.database.database import Database
    from dingrelay_workers.database.errors import refuse_missing, unusable

    refuse_missing(settings.database)
    database = Database(settings.database)
    try:
        yield database if await database.has(table) else None
    except SQLAlchemyError as error:
        raise unusable(error) from None
    finally:
        await database.dispose()
