"""How an extra is added to a copy of dingrelay, by what pip wrote down of where that came from."""

from typing import Any

import pytest

from dingrelay_producers.installation import from_source, how_to_add

GIT = {"vcs": "git", "commit_id": "1f2e3d"}


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (
            {"url": "file:///srv/ding%20relay", "dir_info": {"editable": True}},
            "pip install --editable '/srv/ding relay[worker]'",
        ),
        ({"url": "file:///srv/dingrelay", "dir_info": {}}, "pip install '/srv/dingrelay[worker]'"),
        (
            {"url": "file:///srv/dingrelay-0.3.0-py3-none-any.whl", "archive_info": {}},
            "pip install '/srv/dingrelay-0.3.0-py3-none-any.whl[worker]'",
        ),
        (
            {"url": "https://example.com/dingrelay.whl", "archive_info": {}},
            "pip install 'dingrelay[worker] @ https://example.com/dingrelay.whl'",
        ),
        (
            {"url": "https://example.com/dingrelay.git", "vcs_info": GIT},
            "pip install 'dingrelay[worker] @ git+https://example.com/dingrelay.git@1f2e3d'",
        ),
        ({}, "install dingrelay 0.3.0 again from where it came, with the extra worker"),
    ],
)
def test_an_extra_comes_from_where_the_copy_came(source: dict[str, Any], command: str) -> None:
    assert from_source(source, extra="worker", version="0.3.0") == command


def test_this_copy_is_a_checkout() -> None:
    assert how_to_add("worker").startswith("pip install --editable '/")
