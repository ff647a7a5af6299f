"""Words for actions: those of the buttons and those of the audit are one table."""

import pytest

from dingrelay_producers.language import CHINESE, ENGLISH, spoken
from dingrelay_workers.console.sentences import ACTIONS, action_words


@pytest.mark.parametrize("language", [ENGLISH, CHINESE])
def test_no_two_actions_are_called_the_same(language: str) -> None:
    with spoken(language):
        words = [action_words("", action) for action in ACTIONS if "." not in action]
    assert sorted(words) == sorted({*words})


def test_a_lane_is_resumed_and_a_broadcast_goes_on() -> None:
    with spoken(CHINESE):
        assert action_words("lane", "resume") == "恢复"
        assert action_words("campaign", "resume") == "继续发送"
    assert action_words("lane", "of a newer release") == "Of a newer release"
