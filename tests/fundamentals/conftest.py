"""The system that all tests here share: a newcomer's, started once."""

from collections.abc import Iterator

import pytest

from fundamentals.system import System, running_system


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("system")) as system:
        yield system
