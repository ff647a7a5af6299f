"""The system that all tests here share: a newcomer's, started once."""

from collections.abc import Iterator

import pytest

from fundamentals.system import System, running_system


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "system" in item.fixturenames:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("system")) as system:
        yield system
