"""A worker meets the tables of a newer release with which it does not work."""

import subprocess

import pytest
from sqlalchemy import create_engine, text

import processes
from acceptance.fleet import APP, PYTHON, Fleet
from dingrelay_tasks.user_sync import DIRECTORY_QUEUE


@pytest.fixture
def newer(fleet: Fleet) -> Fleet:
    engine = create_engine(fleet.env["DINGRELAY_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(text("update schema_version set version_num = '9999'"))
        connection.execute(text("update schema_readers set oldest = '9000'"))
    engine.dispose()
    return fleet


def test_our_command_ends_with_one_line(newer: Fleet) -> None:
    done = processes.run(
        [*PYTHON, "dingrelay_producers.cli", "worker", "--lanes", "directory"],
        env=newer.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "its tables are of a newer release" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_celerys_command_ends_as_well(newer: Fleet) -> None:
    (worker,) = newer.spawn(app=APP, queues=[DIRECTORY_QUEUE], wait=False)
    assert worker.process.wait(60) == 2
    log = worker.log.read_text()
    assert log.count("its tables are of a newer release") == 1
    assert "Traceback" not in log
