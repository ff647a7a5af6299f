"""Detection of dead workers, without false alarms."""

from dingrelay_workers.maintenance.presence import SIGNS, Watch

TIMEOUT = 6.0
PERIOD = TIMEOUT / SIGNS


def signs(**beats: int) -> dict[str, str]:
    return {worker: f"{beat} {TIMEOUT}" for worker, beat in beats.items()}


def watched(watch: Watch, start: int, end: int, **silent: int) -> list[str]:
    """Workers that count as dead by the end, where `a` gives a sign each time and the others none."""
    gone: list[str] = []
    for beat in range(start, end):
        gone = watch.find_silent(signs(a=beat, **silent), beat * PERIOD)
    return gone


def test_a_worker_without_a_sign_for_the_whole_time_is_gone() -> None:
    watch = Watch(TIMEOUT)
    assert watched(watch, 0, SIGNS, b=7) == []
    assert watched(watch, SIGNS, SIGNS + 1, b=7) == ["b"]
    assert watched(watch, SIGNS + 1, SIGNS + 2, b=8) == [], "it gave one after all"


def test_a_sign_of_an_older_state_is_one_too() -> None:
    watch = Watch(TIMEOUT)
    watched(watch, 0, SIGNS, b=7)
    # A failover lost the last signs: the state that is found was written by a worker that lived.
    assert watched(watch, SIGNS, SIGNS + 2, b=5) == []


def test_a_worker_that_was_cut_off_takes_nobody_for_gone() -> None:
    watch = Watch(TIMEOUT)
    watched(watch, 0, SIGNS, b=7)
    assert watched(watch, 3 * SIGNS, 4 * SIGNS, b=7) == []
    assert watched(watch, 4 * SIGNS, 4 * SIGNS + 1, b=7) == ["b"]


def test_a_late_look_misses_two_signs_at_most() -> None:
    watch = Watch(TIMEOUT)
    watched(watch, 0, 3, b=7)
    # Two have been missed; a look 5 later is worth two more, and not five.
    assert watched(watch, 7, 8, b=7) == []
    assert watched(watch, 8, 9, b=7) == []
    assert watched(watch, 9, 10, b=7) == ["b"]


def test_an_interruption_gives_everybody_their_time_anew() -> None:
    watch = Watch(TIMEOUT)
    watched(watch, 0, SIGNS, b=7)
    watch.interrupt()
    assert watched(watch, SIGNS, 2 * SIGNS, b=7) == []
    assert watched(watch, 2 * SIGNS, 2 * SIGNS + 1, b=7) == ["b"]


def test_a_worker_is_given_the_time_that_it_asks_for() -> None:
    watch = Watch(TIMEOUT)
    gone: list[str] = []
    for beat in range(2 * SIGNS + 1):
        gone = watch.find_silent({"a": f"{beat} 6", "b": "7 12", "c": "odd"}, beat * PERIOD)
        assert gone == (["b", "c"] if beat == 2 * SIGNS else ["c"] * (beat >= SIGNS))
    assert gone
