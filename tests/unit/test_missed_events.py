"""Pages of the events that DingTalk could not push, which it forgets once it has returned them."""

import pytest

from dingrelay_workers.dingtalk import missed_events
from unit.fake_calls import FakeCalls


@pytest.mark.parametrize(
    ("has_more", "more"),
    [
        *((value, True) for value in (True, "true", 1, "perhaps")),
        *((value, False) for value in (False, "false", 0, None)),
    ],
)
async def test_whether_there_are_more_is_read_leniently(has_more: object, more: bool) -> None:
    answer = {"errcode": 0, "has_more": has_more, "failed_list": [{"call_back_tag": "x"}]}
    page = await missed_events.read(FakeCalls(lambda _: answer))
    assert (len(page.entries), page.more) == (1, more)
    empty = FakeCalls(lambda _: {**answer, "failed_list": []})
    assert not (await missed_events.read(empty)).more
