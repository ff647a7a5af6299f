"""Apps of cells, and faults in the settings of cells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers import Settings, SettingsError
from dingrelay_producers.cells import Cells
from dingrelay_tasks import ContractError
from dingrelay_workers import preflight

ONE: dict[str, Any] = {"redis_url": "redis://one:6379/0", "apps": ["hr"], "default": True}
TWO: dict[str, Any] = {"redis_url": "redis://two:6379/0", "apps": ["shop", "crm"]}
BOTH = {"one": ONE, "two": TWO}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(cells: Mapping[str, Any], **others: Any) -> Settings:
    return Settings.load(**{"env": "test", "cells": cells, **others})


NAME_ONE = "DINGRELAY_CELL: name one of the cells: one, two"


@pytest.mark.parametrize(
    ("cells", "cell", "app", "found"),
    [
        ({}, "", "any", ""),
        ({}, "", None, ""),
        (BOTH, "", "hr", "one"),
        (BOTH, "", "shop", "two"),
        (BOTH, "", "any", "one"),
        (BOTH, "", None, SettingsError(NAME_ONE)),
        (BOTH, "two", None, "two"),
        (BOTH, "two", "shop", "two"),
        (BOTH, "two", "hr", ContractError("app", "hr is in the cell one, and this is two")),
        ({"two": TWO}, "", "any", ContractError("app", "any is in no cell")),
    ],
)
def test_a_call_goes_to_the_cell_of_its_app_or_to_the_chosen_one(
    cells: Mapping[str, Any], cell: str, app: str | None, found: str | Exception
) -> None:
    settings = load(cells, cell=cell)
    connections = Cells(settings, lambda own: own.cell)
    if isinstance(found, Exception):
        for ask in (settings.cell_of, settings.of_app, connections.of):
            with pytest.raises(type(found), match=str(found)):
                ask(app)
        return
    assert (settings.cell_of(app), settings.of_app(app).cell) == (found, found)
    assert connections.of(app) == connections.named(found) == found
    assert list(connections.made) == [found]


def test_a_cell_has_its_own_servers_and_apps_only() -> None:
    apps = {"hr": {"app_key": "a"}, "shop": {"app_key": "b"}, "other": {"app_key": "c"}}
    cells = {
        "one": ONE,
        "two": {**TWO, "broker_url": "amqp://rabbit", "database_url": "sqlite:///x"},
    }
    settings = load(cells, apps=apps, sync={"every": "24h", "apps": ["hr"]})
    one, two = settings.of_cell("one"), settings.of_cell("two")
    assert (one.redis, one.broker, one.database) == (
        "redis://one:6379/0",
        "redis://one:6379/0",
        "sqlite:///dingrelay-one.db",
    )
    assert (two.redis, two.broker, two.database) == (
        "redis://two:6379/0",
        "amqp://rabbit",
        "sqlite:///x",
    )
    assert (set(one.apps), set(two.apps)) == ({"hr", "other"}, {"shop"})
    # None of its apps has a schedule, which must not become one for all of them.
    assert (one.sync.every, two.sync.every) == ("24h", "")


def test_without_a_cell_no_server_is_chosen() -> None:
    settings = load(BOTH, redis_url="redis://home:1/0")
    for name in ("redis", "broker", "database", "redis_address"):
        with pytest.raises(SettingsError, match=NAME_ONE):
            getattr(settings, name)


def test_shared_data_is_where_the_settings_point_or_in_the_default_cell() -> None:
    assert load(BOTH, redis_url="redis://home:1/0").home.redis == "redis://home:1/0"
    assert load(BOTH).home.redis == "redis://one:6379/0"
    assert load(BOTH, cell="two").home.redis == "redis://two:6379/0"
    with pytest.raises(SettingsError, match="DINGRELAY_REDIS_URL"):
        _ = load({"two": TWO}).home


def test_a_process_works_for_one_cell_if_configured_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGRELAY_CELL", "two")
    settings = load(BOTH)
    assert (settings.redis, settings.across_cells) == ("redis://two:6379/0", False)
    preflight.check_cell(settings)
    monkeypatch.delenv("DINGRELAY_CELL")
    with pytest.raises(SettingsError, match=NAME_ONE):
        preflight.check_cell(load(BOTH))


def test_a_worker_in_production_has_the_secrets_of_its_cells_apps_and_needs_no_others() -> None:
    apps = {"hr": {"app_key": "a", "app_secret": "b"}}
    cells = {"one": {**ONE, "apps": ["hr", "robots"]}, "two": TWO}
    preflight.check_apps(load(cells, apps=apps, env="production", cell="one"))
    apps["shop"] = {"app_key": "c", "app_secret": "d"}
    with pytest.raises(SettingsError, match=r"apps\.crm: no such app is configured"):
        preflight.check_apps(load(cells, apps=apps, env="production", cell="two"))


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        ({"one": {**ONE, "redis_url": ""}}, "cells.one.redis_url: required"),
        ({"one": {**ONE, "redis_url": "http://x"}}, "cells.one.redis_url: must begin with"),
        ({"one": {**ONE, "broker_url": "amqp://x:0"}}, "cells.one.broker_url: the port"),
        ({"one": {**ONE, "database_url": "mysql://x"}}, "cells.one.database_url: must begin"),
        ({"One": ONE}, "cells.One: the name of a cell"),
        ({"a_file": ONE}, "cells.a_file: the name of a cell"),
        ({"one": {**ONE, "apps": ["a b"]}}, "cells.one.apps.0: "),
        ({"one": {**ONE, "app": ["hr"]}}, "cells.one.app: "),
        ({"two": {"redis_url": "redis://two"}}, "cells.two.apps: name some"),
        (
            {"one": ONE, "two": {**TWO, "apps": ["hr"]}},
            "cells.two.apps: hr is in cells.one already",
        ),
        ({"two": {**TWO, "apps": ["x", "x"]}}, "cells.two.apps: x is in cells.two already"),
        ({"one": ONE, "two": {**TWO, "default": True}}, "cells.two.default: cells.one is"),
        # One server, however it is spelled.
        (
            {"one": ONE, "two": {**TWO, "redis_url": "rediss://:pw@ONE/?db=0"}},
            "cells.two.redis_url: is that of cells.one",
        ),
        (
            {
                "one": {**ONE, "broker_url": "amqp://a@mq/x"},
                "two": {**TWO, "broker_url": "amqp://b@mq/x"},
            },
            "cells.two.broker_url: is that of cells.one",
        ),
        (
            {
                "one": {**ONE, "database_url": "postgresql://a:b@db/x"},
                "two": {**TWO, "database_url": "postgresql+psycopg://db:5432/x?sslmode=require"},
            },
            "cells.two.database_url: ",
        ),
        (
            {"one": ONE, "two": {**TWO, "database_url": "sqlite:///dingrelay-one.db"}},
            "cells.two.database_url: is that of cells.one",
        ),
    ],
)
def test_errors_name_their_field(cells: Mapping[str, Any], error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(cells)
    assert str(caught.value).startswith(error)
    assert "pw" not in str(caught.value)


def test_one_server_may_have_two_databases_of_two_cells() -> None:
    settings = load({"one": ONE, "two": {**TWO, "redis_url": "redis://one:6379/1"}})
    assert settings.of_cell("two").redis == "redis://one:6379/1"


def test_a_cell_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGRELAY_CELL", "three")
    with pytest.raises(SettingsError, match=NAME_ONE):
        load(BOTH)
    with pytest.raises(SettingsError, match="DINGRELAY_CELL: there are no cells"):
        Settings.load(env="test")


def test_environment_has_the_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "cells.toml"
    monkeypatch.setenv("DINGRELAY_CONFIG", str(config))
    monkeypatch.setenv("DINGRELAY_ENV", "test")
    config.write_text('[cells.one]\napps = ["hr"]\nredis_url = "redis://one"\n')
    monkeypatch.setenv("DINGRELAY_REDIS_URL_ONE", "redis://:s3cret@one:1/0")
    (tmp_path / "database").write_text("postgresql://u:s3cret@db/one\n")
    monkeypatch.setenv("DINGRELAY_DATABASE_URL_ONE_FILE", str(tmp_path / "database"))
    settings = Settings.load()
    one = settings.of_cell("one")
    assert (one.redis, one.database) == ("redis://:s3cret@one:1/0", "postgresql://u:s3cret@db/one")
    assert "s3cret" not in repr(settings) + str(one.cells)
    for url in ("redis://:s3cret@one", "sentinel://a,b/0?master=m&sentinel_password=s3cret"):
        config.write_text(f'[cells.one]\napps = ["hr"]\nredis_url = "{url}"\n')
        with pytest.raises(
            SettingsError, match=r"cells\.one\.redis_url: a password comes from"
        ) as caught:
            Settings.load()
        assert "DINGRELAY_REDIS_URL_ONE" in str(caught.value)
        assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("DINGRELAY_BROKER_URL_ONE_FILE", str(tmp_path / "nowhere"))
    config.write_text('[cells.one]\napps = ["hr"]\n')
    with pytest.raises(SettingsError, match="DINGRELAY_BROKER_URL_ONE_FILE"):
        Settings.load()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.lists(st.sampled_from("abcdefgh"), max_size=4), st.booleans()
        ),
        max_size=5,
    )
)
def test_one_cell_an_app_and_server(given_cells: list[tuple[int, list[str], bool]]) -> None:
    cells = {
        f"c{number}": {"redis_url": f"redis://r{server}", "apps": apps, "default": default}
        for number, (server, apps, default) in enumerate(given_cells)
    }
    named = [app for _, apps, _ in given_cells for app in apps]
    servers = [server for server, _, _ in given_cells]
    right = (
        len(set(named)) == len(named)
        and len(set(servers)) == len(servers)
        and sum(default for *_, default in given_cells) <= 1
        and all(apps or default for _, apps, default in given_cells)
    )
    if not right:
        with pytest.raises(SettingsError, match=r"^cells\.c\d\."):
            load(cells)
        return
    settings = load(cells)
    for name, cell in cells.items():
        for app in cell["apps"]:
            assert settings.cell_of(app) == name
            assert settings.of_cell(name).serves(app)
            assert not any(settings.of_cell(other).serves(app) for other in cells if other != name)
