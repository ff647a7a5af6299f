"""The people and departments that a directory holds, read as a whole."""

from dingrelay_workers.directory import audience
from dingrelay_workers.directory.store import AppDirectory


async def all_users(directory: AppDirectory) -> list[str]:
    return [userid async for page in directory.everyone() for userid in page]


async def users_below(directory: AppDirectory, department: int) -> list[str]:
    pages = audience.below(directory._database, directory._app, department)
    return [userid async for page in pages for userid in page]
