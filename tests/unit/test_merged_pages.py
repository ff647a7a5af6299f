"""Pages of jobs from several cells: nothing is left out, nothing is shown twice, and all is in order."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers import JobStatus, State
from dingrelay_workers.gateway.jobs.listing import Page, Position, merged


def job(place: Position) -> JobStatus:
    at = datetime.fromtimestamp(place.at / 1000, UTC)
    return JobStatus(
        id=place.job_id,
        kind="message-send",
        app="default",
        lane="normal",
        state=State.QUEUED,
        attempts=0,
        throttles=0,
        created_at=at,
    )


class Cell:
    """Jobs of which a filter takes some; a look at them is bounded, as in `Listing`."""

    def __init__(self, places: list[tuple[int, bool]], name: str, most: int) -> None:
        jobs = [(Position(at, f"{name}{number}"), fits) for number, (at, fits) in enumerate(places)]
        self._places = sorted(jobs, reverse=True)
        self._most = most
        self.fitting = [place for place, fits in self._places if fits]

    def page(self, limit: int, after: Position | None) -> Page:
        found: list[tuple[Position, JobStatus]] = []
        behind = [each for each in self._places if after is None or each[0] < after]
        for looked_at, (place, fits) in enumerate(behind, 1):
            if fits:
                found.append((place, job(place)))
            if len(found) == limit or looked_at == self._most:
                return Page(found, place)
        return Page(found, None)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12), min_size=2, max_size=4
    ),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_all_jobs_are_shown_once_and_in_order(
    cells: list[list[tuple[int, bool]]], limit: int, most: int
) -> None:
    known = [Cell(places, name, most) for name, places in zip("abcd", cells, strict=False)]
    shown: list[str] = []
    after: Position | None = None
    for _ in range(200):
        page = merged([cell.page(limit, after) for cell in known], limit)
        assert len(page.jobs) <= limit
        shown += [each.id for each in page.jobs]
        if page.next is None:
            break
        assert after is None or page.next < after
        after = page.next
    everything = sorted((place for cell in known for place in cell.fitting), reverse=True)
    assert shown == [place.job_id for place in everything]
