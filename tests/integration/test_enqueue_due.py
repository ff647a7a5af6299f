"""A job without a due time leaves nothing half accepted."""

from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from dingrelay_producers.store import record, scripts
from support.jobs import a_draft


@pytest.mark.parametrize("due", ["", "soon", "1.5", "nan", "inf", 2**63])
def test_an_invalid_due_time_accepts_no_part_of_the_batch(store: Redis, due: Any) -> None:
    """No contract lets one in."""
    drafts = [a_draft() for _ in range(3)]
    drafts[2] = drafts[2]._replace(due=due)
    calls = record.enqueue_all(map(record.written, drafts))
    with pytest.raises(ResponseError, match=f"the due of {drafts[2].id} is no time"):
        scripts.run_many(store, calls)
    assert store.keys() == []
