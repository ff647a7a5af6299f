"""The connections of a client: one for each cell, and the calls to several of them."""

import re
from collections.abc import Callable, Mapping

from dingrelay_producers.cells.answers import ask_in_threads, merged
from dingrelay_producers.cells.cells import Cells
from dingrelay_producers.cells.found import Found
from dingrelay_producers.client import job_details
from dingrelay_producers.client.arguments import checked_limit
from dingrelay_producers.client.connection import Connection
from dingrelay_producers.client.coroutines import run
from dingrelay_producers.client.groups import Group
from dingrelay_producers.client.history_backend import JobDetails
from dingrelay_producers.errors import CellUnavailable, InvalidArgument, JobNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import Draft, Enqueued, Written
from dingrelay_producers.store.send_span import sending
from dingrelay_producers.store.status import JobStatus

OnAway = Callable[[CellUnavailable], object]
"""Is called with the cells that are away, once, while the others answer."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class CellConnections(Cells[Connection]):
    """The connections to all cells; to the one Redis there is, where there are no cells.

    Args:
        settings: with the cells and their apps.
        make: opens one, with the settings of its cell.
    """

    def __init__(
        self, settings: Settings, make: Callable[[Settings], Connection] = Connection
    ) -> None:
        super().__init__(settings, make)
        self._settings = settings
        self._found = Found()

    @property
    def alone(self) -> bool:
        """Whether there is but one."""
        return len(self.names) == 1

    def to_ask(self, app: str | None) -> dict[str, Connection]:
        """The cell that has an app; all if None."""
        return self.among() if app is None else {self.name_of(app): self.of(app)}

    def settings_of(self, app: str | None) -> Settings:
        """The settings of the cell that has an app.

        Raises:
            InvalidArgument: there are several, and no app is given.
        """
        if app is not None:
            return self.of(app).settings
        if not self.alone:
            raise InvalidArgument("app", "given, as there are cells", app)
        return self._settings

    def enqueue(self, drafts: Mapping[Group, Draft], away: dict[str, str]) -> dict[Group, Enqueued]:
        """Enqueue the job of each group in its cell; what became of it.

        Those of cells that are away are missing; which cells these are is added to `away`.
        """
        by_cell = self._by_cell(drafts)
        with sending(drafts.values()):
            asked: dict[str, tuple[Connection, list[Draft], list[Written]]] = {}
            for name, groups in by_cell.items():
                cell, own = self.named(name), [drafts[group] for group in groups]
                asked[name] = cell, own, cell.written(own)
            answers = ask_in_threads(asked, lambda each: each[0].enqueue(each[1], each[2]))
            if self.alone:
                answers.whole()
        away |= answers.away
        return {
            group: answer
            for name, found in answers.found.items()
            for group, answer in zip(by_cell[name], found, strict=True)
        }

    def wake(self, drafts: Mapping[Group, Draft], answers: Mapping[Group, Enqueued]) -> None:
        """Publish the wake-ups of what was written."""
        for name, groups in self._by_cell(drafts).items():
            self.named(name).wake(answers[group] for group in groups if group in answers)

    def _by_cell(self, drafts: Mapping[Group, Draft]) -> dict[str, list[Group]]:
        if self.alone:
            return {self.names[0]: list(drafts)}
        found: dict[str, list[Group]] = {}
        for group, draft in drafts.items():
            found.setdefault(self.name_of(draft.app), []).append(group)
        return found

    def holder(self, job_id: str, app: str | None) -> Connection:
        """The cell that has a job: by its app if that is given, else all are queried.

        Raises:
            JobNotFound: all were asked, and none has it.
            CellUnavailable: not all could be queried, and none of the others has it.
        """
        if app is not None:
            return self.of(app)
        if self.alone:
            return self.named(self.names[0])
        if known := self._found.get(job_id):
            return self.named(known)
        owner = self._settings.owner_of
        apps = ask_in_threads(
            self.among(),
            lambda cell: cell.app_of(job_id),
            # Where an app has moved, the cell that it was in may still have a record with this id.
            enough=lambda name, found: found is not None and owner(found) == name,
        )
        holders = {name: found for name, found in apps.found.items() if found is not None}
        if not holders:
            apps.whole()
            raise JobNotFound(job_id)
        names = [name for name, found in holders.items() if owner(found) == name]
        name = next(iter(names or holders))
        self._found.put(job_id, name)
        return self.named(name)

    def details(self, job_id: str, app: str | None) -> JobDetails:
        """A job from its record or the history; see `Client.details`."""
        try:
            return self.holder(job_id, app).details(job_id)
        except JobNotFound:
            if app is not None or self.alone:
                raise

        def of_history(cell: Connection) -> JobDetails | None:
            return run(cell.history.details(job_id)) if cell.history else None

        answers = ask_in_threads(self.among(), of_history, enough=lambda _, kept: bool(kept))
        found = next(filter(None, answers.found.values()), None)
        if found is None:
            answers.whole()
            raise JobNotFound(job_id)
        return found

    def whole_id(self, given: str) -> str:
        """The id of the one job that begins so; see `Client.whole_id`."""
        if self.alone:
            return self.named(self.names[0]).whole_id(given)
        if _UUID.fullmatch(given):
            return given
        ids = ask_in_threads(self.among(), lambda cell: cell.whole_id(given)).whole()
        found = sorted({job_id for job_id in ids if job_id != given.strip()})
        if len(found) > 1:
            raise job_details.several(found, given)
        return found[0] if found else given

    def statuses(self, index: str, limit: int, on_away: OnAway | None) -> list[JobStatus]:
        """The last jobs of an index, latest first."""
        most = checked_limit(limit)
        answers = ask_in_threads(self.among(), lambda cell: cell.statuses(index, most))
        found = merged(answers.available(on_away), lambda each: each[0], reverse=True)
        return [status for _, status in found[:most]]
