import json
from contextlib import nullcontext
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import dingrelay_tasks
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS, schema_text, schemas, write_schemas

FILES = resources.files("dingrelay_tasks").joinpath("schemas")
WANTED = dict(schemas())


def test_every_public_kind_has_a_schema_for_itself_and_its_result() -> None:
    public = [kind.name for kind in KINDS.values() if kind.is_public]
    wanted = {f"{name}{part}.json" for name in public for part in ("", ".result")}
    assert set(WANTED) == wanted
    assert {file.name for file in FILES.iterdir()} == wanted


@pytest.mark.parametrize("name", WANTED)
def test_a_file_says_what_the_contract_says(name: str) -> None:
    assert FILES.joinpath(name).read_text("utf-8") == schema_text(WANTED[name])


def test_the_files_can_be_written_anew(tmp_path: Path) -> None:
    write_schemas(tmp_path / "schemas")
    written = {file.name: json.loads(file.read_text("utf-8")) for file in tmp_path.rglob("*.json")}
    assert written == WANTED


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ([], False),
        ({}, False),
        ({"": "x"}, False),
        ([{"name": "a", "value": "b"}] * 151, False),
        ({str(number): "x" for number in range(151)}, False),
        ([{"name": "a", "value": "b"}], True),
        ({"a": ["b"]}, True),
    ],
)
def test_schema_and_contract_agree_on_a_form(form: object, fits: bool) -> None:
    job = {"process_code": "P", "originator": "u1", "form": form}
    assert Draft202012Validator(WANTED["approval-create.json"]).is_valid(job) is fits
    with nullcontext() if fits else pytest.raises(ContractError):
        ApprovalCreate.parse(job)


def test_the_public_surface_is_what_it_says() -> None:
    assert sorted(dingrelay_tasks.__all__) == dingrelay_tasks.__all__
    assert {"ApprovalCreate", "ContractError", "MessageSend", "UserSync"} <= set(
        dingrelay_tasks.__all__
    )
    for name in dingrelay_tasks.__all__:
        assert hasattr(dingrelay_tasks, name)
