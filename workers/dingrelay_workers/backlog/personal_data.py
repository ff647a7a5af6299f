"""A person who paused lanes, or senders in them."""

from dingrelay_producers.store.record import milliseconds
from dingrelay_producers.store.script_functions import script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import PAUSES
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog.estimate import read_pauses
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores


@script("dingrelay_workers.backlog", PAUSES)
def _sign_pauses(*, person: str, name: str, latest: int) -> None:
    """Another `name` for a `person`, in pauses up to a moment (ms)."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """The pauses that they began."""
    return [
        pause.model_dump(mode="json", exclude={"by"})
        for pause in await read_pauses(stores.redis)
        if pause.by == subject.user and subject.covers(pause.app)
    ]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take their name out of pauses, which go on. Who paused is about no app."""
    if erasing.app is None:
        call = _sign_pauses(
            person=erasing.user,
            name=erasing.tombstone,
            latest=milliseconds(erasing.since) or 0,
        )
        erasing.changed["pauses"] += await run_async(stores.redis, call)


PERSONAL_DATA = PersonalData(
    place="pauses",
    title=en("paused lanes"),
    keys=("PAUSES",),
    export=export,
    erase=erase,
)
