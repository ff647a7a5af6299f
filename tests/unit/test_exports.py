"""The public names of the packages that business applications import."""

import pytest

import dingrelay_producers
import dingrelay_tasks


def test_every_public_name_of_the_producers_is_there() -> None:
    for name in dingrelay_producers.__all__:
        assert getattr(dingrelay_producers, name).__name__ == name
    assert dir(dingrelay_producers) == sorted(dingrelay_producers.__all__)


def test_every_public_name_of_the_tasks_is_there() -> None:
    for name in dingrelay_tasks.__all__:
        assert hasattr(dingrelay_tasks, name)


def test_another_name_is_an_attribute_error() -> None:
    name = "Sender"
    with pytest.raises(AttributeError, match=name):
        getattr(dingrelay_producers, name)
