"""What a Celery message is taken for before anything is written down."""

from typing import Any

import pytest

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_tasks import ContractError
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.delivery import Delivery

KIND = KINDS["approval-create"]


def delivered(job: object, **headers: Any) -> Delivery:
    request = {"id": "j", "args": (), "kwargs": {"job": job}, **headers}
    return Delivery.from_request(KIND, request)


@pytest.mark.parametrize(("header", "bare"), [(5, False), (0, True), (True, True), (2**60, True)])
def test_a_wakeup_of_ours_tells_when_it_was_published(header: object, *, bare: bool) -> None:
    assert delivered({"app": "default"}, **{WOKEN_HEADER: header}).bare == bare


def test_a_foreign_job_that_is_too_large_is_not_written_down() -> None:
    job = {"app": "hr", "process_code": "P", "form": {"事由": "中" * 400_000}}
    delivery = delivered(job)
    assert delivery.job == {"app": "hr", "lane": "normal"}
    assert len(delivery.draft().payload) < 100
    with pytest.raises(ContractError, match="form: the job is"):
        delivery.contract()
