import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from dingrelay_producers import JobStatus
from dingrelay_producers.cli import output
from dingrelay_producers.cli.output import Column, fitting, print_table
from dingrelay_producers.time_spans import length


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (3_661, "1 h 1 min"),
        (12_036, "3 h 20 min"),
        (86_400 * 2 + 60, "2 d"),
        (122_036, "1 d 9 h"),
        (-5, "0 s"),
    ],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert length(seconds) == text


COLUMNS = (
    Column("id", itemgetter(0)),
    Column("kind", itemgetter(1), rank=1),
    Column("app", itemgetter(2), rank=3, right=True),
    Column("reason", itemgetter(3), rank=2, cut=True),
)
ROWS = [[Text("a" * 36), Text("message-send"), Text("default"), Text("语" * 40)]]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(200, [0, 1, 2, 3]), (77, [0, 1, 2, 3]), (76, [0, 1, 3]), (67, [0, 1]), (49, [0]), (10, [0])],
)
def test_columns_without_room_are_left_out_but_no_id(width: int, shown: list[int]) -> None:
    assert list(fitting(COLUMNS, ROWS, width)) == shown


@pytest.mark.parametrize("width", [10, 40, 80, 120])
def test_every_id_is_whole_on_any_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=width))
    print_table(ROWS, *COLUMNS)
    assert "a" * 36 in capsys.readouterr().out.replace("\n", "").replace(" ", "")


def printed(capsys: pytest.CaptureFixture[str], **fields: Any) -> list[str]:
    """The lines of a message's status with these fields."""
    message = {"id": "j", "kind": "message-send", "app": "default", "lane": "normal"}
    created = {"created_at": "2026-11-25T00:00:00Z"}
    output.print_job(JobStatus.model_validate(message | created | fields))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        ("to", "to: name at least one user", "contract: to: name at least one user"),
        ("60011", "no permission", "contract 60011: no permission"),
        ("contract", "it is wrong", "contract: it is wrong"),
    ],
)
def test_an_error_names_its_field_once(
    code: str, message: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"class": "contract", "code": code, "message": message}
    lines = printed(capsys, state="dead", error=error)
    [line] = [line for line in lines if line.startswith("error")]
    assert line.removeprefix("error").strip() == shown


@pytest.mark.parametrize(
    ("waits_for", "shown"),
    [
        ({"what": "app", "name": "default"}, "app default, which is held"),
        ({"what": "host", "name": "oapi"}, "DingTalk (oapi), which is out"),
        ({"what": "api", "name": "message.send"}, "message.send, which is out"),
    ],
)
def test_a_job_names_what_it_waits_for_whatever_its_last_error(
    waits_for: dict[str, str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"class": "credentials", "code": "40096", "message": "refused"}
    lines = printed(capsys, state="snoozed", waits_for=waits_for, error=error)
    assert f"waiting for  {shown}" in " ".join(line.strip() for line in lines)


WRITE = """
import resource, sys
from dingrelay_producers.cli.output import output_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
try:
    with output_file("report.csv", "--csv") as write:
        write("row\\n" for _ in range(int(sys.argv[1])))
except Exception as error:
    print(error.message)
"""


@pytest.mark.parametrize(
    ("rows", "said", "kept"),
    [(10, "", "row\n" * 10), (100_000, "report.csv: File too large", "old")],
)
def test_a_file_is_written_atomically(tmp_path: Path, rows: int, said: str, kept: str) -> None:
    (tmp_path / "report.csv").write_text("old")
    written = subprocess.run(
        [sys.executable, "-c", WRITE, str(rows)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (written.stdout.strip(), written.stderr) == (said, "")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"report.csv": kept}
