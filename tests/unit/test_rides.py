"""One call for several jobs: who is in it, and what each of them hears."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_workers.caller import OwnershipLost
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    NotFound,
    Permanent,
    QuotaExhausted,
    Throttled,
    Transient,
)
from dingrelay_workers.limiter.grant import Draining, Parked
from dingrelay_workers.rides import Likeness, NoSeat, Parted, Ride, Rides, Seat

HERE = Likeness("dingrelay:waiting:default:a", "normal")


async def seat(rides: Rides, *users: str) -> Seat:
    return await rides.seat(HERE, users, eager=False)


def users() -> st.SearchStrategy[list[list[str]]]:
    user = st.integers(1, 150).map(lambda number: f"u{number}")
    return st.lists(st.lists(user, min_size=1, max_size=100, unique=True), min_size=1, max_size=40)


@given(asked=users())
def test_no_call_holds_a_user_twice_or_more_than_it_takes(asked: list[list[str]]) -> None:
    async def ask() -> list[Seat]:
        rides = Rides()
        return [await seat(rides, *each) for each in asked]

    seats = asyncio.run(ask())
    for ride in {seat.ride for seat in seats}:
        ride.depart(paid=None)
        for each in seats:
            each.ready()
        named = ride.seal()
        assert len(named) == len(set(named)) <= 100
        assert named == [user for each in seats if each.ride is ride for user in each.users]
    assert [list(each.users) for each in seats] == asked


async def test_jobs_join_the_call_that_waits_and_leave_room_when_they_go() -> None:
    rides = Rides()
    leader, other = await seat(rides, "u1"), await seat(rides, "u2", "u3")
    assert leader.leads
    assert not other.leads
    assert leader.ride is other.ride
    assert leader.ride.costs == {"calls": 1, "recipients": 3}
    other.leave()
    assert leader.ride.costs == {"calls": 1, "recipients": 1}
    assert (await seat(rides, "u1")).leads, "the same user needs a call of its own"


async def test_while_a_call_fills_up_others_wait_for_the_next() -> None:
    rides = Rides()
    leader = await seat(rides, "u1")
    leader.ride.depart(paid=None)
    later = asyncio.create_task(seat(rides, "u2"))
    await asyncio.sleep(0)
    assert not later.done()
    assert leader.ride.seal() == ["u1"]
    rides.close(HERE, leader.ride)
    next_leader = await later
    assert next_leader.leads
    assert next_leader.ride.eager, "it waited"


async def test_who_is_not_ready_in_time_stays_behind() -> None:
    ride = Ride(["u1"], eager=False)
    slow, ready, never = ride.join(["u2"], eager=False), ride.reserve(), ride.reserve()
    ride.depart(paid=None)
    await slow.departure()
    gone = ride.reserve()
    gone.leave()
    ready.take(["u3"])
    ready.ready()
    await ride.boarded(0.01)
    assert ride.seal() == ["u1", "u3"]
    for left_behind in (slow, never):
        with pytest.raises(NoSeat):
            await left_behind.arrival()
    with pytest.raises(NoSeat):
        never.take(["u4"])
    slow.leave()
    ride.arrive({"task_id": 1})
    assert await ready.arrival() == {"task_id": 1}


async def test_a_user_who_is_in_the_call_is_not_taken_along_again() -> None:
    ride = Ride(["u1"], eager=False)
    seat = ride.reserve()
    ride.depart(paid=None)
    with pytest.raises(NoSeat):
        seat.take(["u1"])
    seat.leave()
    await asyncio.wait_for(ride.boarded(60), 1)
    assert ride.seal() == ["u1"]


async def test_who_joined_after_the_slot_was_paid_for_stays_behind() -> None:
    ride = Ride(["u1"], eager=False)
    paid, unpaid = ride.join(["u2"], eager=False), ride.join(["u3"], eager=False)
    ride.depart(paid=2)
    await paid.departure()
    with pytest.raises(NoSeat):
        await unpaid.departure()
    paid.ready()
    assert ride.seal() == ["u1", "u2"]


ALIKE = [
    Throttled("90018", "later"),
    Transient("-1", "busy"),
    Ambiguous("timeout", "no answer"),
    Credentials("40001", "wrong secret"),
    QuotaExhausted("90020", "used up"),
    Parked(3, "the limit"),
    Draining(),
    RedisConnectionError(),
]


@pytest.mark.parametrize("error", ALIKE, ids=lambda error: type(error).__name__)
async def test_what_befalls_the_call_befalls_all_of_it(error: Exception) -> None:
    ride = Ride(["u1"], eager=False)
    other = ride.join(["u2"], eager=False)
    assert ride.end(error, left=False) is error
    with pytest.raises(type(error)) as caught:
        await other.departure()
    assert caught.value is error
    assert ride.sealed.is_set()


@pytest.mark.parametrize("error", [Permanent("400002", "wrong"), NotFound("33012", "no such user")])
async def test_a_refusal_parts_those_who_were_together(error: Permanent | NotFound) -> None:
    ride = Ride(["u1"], eager=False)
    assert ride.end(error, left=False) is error, "alone it is its own"
    ride = Ride(["u1"], eager=False)
    other = ride.join(["u2"], eager=False)
    assert isinstance(ride.end(error, left=False), Parted)
    with pytest.raises(Parted, match=error.code):
        await other.departure()


@pytest.mark.parametrize(("left", "told"), [(False, NoSeat), (True, Ambiguous)])
@pytest.mark.parametrize("error", [OwnershipLost(), asyncio.CancelledError()])
async def test_what_befalls_the_leader_only_is_not_the_others(
    error: BaseException, left: bool, told: type[Exception]
) -> None:
    ride = Ride(["u1"], eager=False)
    other = ride.join(["u2"], eager=False)
    assert ride.end(error, left=left) is error
    with pytest.raises(told):
        await other.departure()


async def test_whoever_is_still_on_the_way_is_waited_for() -> None:
    ride = Ride(["u1"], eager=True)
    joined = ride.join(["u2"], eager=False)
    ride.depart(paid=None)
    joined.ready()
    late = ride.reserve()
    boarded = asyncio.create_task(ride.boarded(1))
    await asyncio.sleep(0)
    assert not boarded.done()
    late.take(["u3"])
    late.ready()
    await boarded
    assert ride.seal() == ["u1", "u2", "u3"]
