"""What came out of the demo, and whether it is as it must be."""

from dataclasses import dataclass

from rich import box
from rich.table import Table

from dingrelay_producers.language import tr


@dataclass(frozen=True)
class Column:
    """One kind of job, in numbers."""

    asked: int
    accepted: int
    delivered: int
    lost: int
    duplicated: int


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        jobs: all jobs, with those that user-sync made.
        unfinished: those that did not end done.
        throttled: throttling answers that DingTalk gave.
        retried: attempts beyond the first.
        taken_over: jobs finished by another worker than the one that vanished with them.
        dropped: messages that DingTalk had from the vanished worker, and did not deliver again.
        misunderstood: approvals whose end is told in different ways.
        token_fetches: tokens that DingTalk handed out, to both workers together.
    """

    messages: Column
    approvals: Column
    people: Column
    jobs: int
    unfinished: list[str]
    throttled: int
    retried: int
    taken_over: int
    dropped: int
    misunderstood: list[str]
    token_fetches: int

    @property
    def disagreements(self) -> list[str]:
        """What is not as it must be."""
        found = [tr("not done: {job}", job=job) for job in self.unfinished]
        found += self.misunderstood
        for name, column in (
            ("messages", self.messages),
            ("approvals", self.approvals),
            ("people", self.people),
        ):
            if column.lost or column.duplicated:
                found.append(
                    tr(
                        "{name}: {lost} lost, {duplicated} duplicated",
                        name=tr(name),
                        lost=column.lost,
                        duplicated=column.duplicated,
                    )
                )
            if not column.asked == column.accepted == column.delivered:
                found.append(
                    tr(
                        "{name}: asked {asked}, accepted {accepted}, delivered {delivered}",
                        name=tr(name),
                        asked=column.asked,
                        accepted=column.accepted,
                        delivered=column.delivered,
                    )
                )
        if self.token_fetches != 1:
            found.append(tr("{token_fetches} token fetches", token_fetches=self.token_fetches))
        return found

    @property
    def agrees(self) -> bool:
        """Whether all is as it must be."""
        return not self.disagreements

    def table(self) -> Table:
        """All of it, for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2))
        table.add_column("")
        for title in ("messages", "approvals", "people"):
            table.add_column(tr(title), justify="right")
        columns = (self.messages, self.approvals, self.people)
        for name, measure in (
            ("asked for", "asked"),
            ("accepted, say our records", "accepted"),
            ("delivered, says the sandbox", "delivered"),
            ("lost", "lost"),
            ("duplicated", "duplicated"),
        ):
            table.add_row(tr(name), *(f"{getattr(column, measure):,}" for column in columns))
        table.add_section()
        for name, number in (
            ("jobs", self.jobs),
            ("throttling answers", self.throttled),
            ("attempts beyond the first", self.retried),
            ("jobs taken over from the killed worker", self.taken_over),
            ("their repeats that DingTalk dropped", self.dropped),
            ("token fetches", self.token_fetches),
        ):
            table.add_row(tr(name), f"{number:,}")
        return table
