"""The directory of an app, as walks over its departments leave it, and all that it holds."""

from collections.abc import Mapping, Sequence

from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import audience
from dingrelay_workers.directory.store import AppDirectory

People = Mapping[int, Sequence[Member]]
Tree = Mapping[int, Sequence[int]]


async def read(
    directory: AppDirectory,
    people: People,
    below: Tree | None = None,
    *,
    run: str = "walk",
    scope: str = "everything",
) -> None:
    """A run reads these departments, named `team 1` and so on; which ones are below each, it learns."""
    root = Department(1, {"name": "team 1"})
    await directory.open_run(run, scope=scope, roots=[root], calls=1)
    for number, members in people.items():
        children = [
            Department(child, {"name": f"team {child}"}) for child in (below or {}).get(number, ())
        ]
        await directory.fill(
            run, Department(number, {}), children=children, members=members, calls=2
        )


async def organise(database: Database, people: People, below: Tree | None = None) -> AppDirectory:
    """The directory once a walk, which is not closed, has read all of it."""
    directory = AppDirectory(database, "default")
    await read(directory, people, below)
    return directory


async def all_users(directory: AppDirectory) -> list[str]:
    return [userid async for page in directory.everyone() for userid in page]


async def users_below(directory: AppDirectory, department: int) -> list[str]:
    pages = audience.below(directory._database, directory._app, department)
    return [userid async for page in pages for userid in page]
