from contextlib import nullcontext

import pytest
from jsonschema import Draft202012Validator

import dingrelay_tasks
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS, schemas

WANTED = dict(schemas())


def test_every_public_kind_has_a_schema_for_itself_and_its_result() -> None:
    public = [kind.name for kind in KINDS.values() if kind.is_public]
    assert set(WANTED) == {f"{name}{part}.json" for name in public for part in ("", ".result")}


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
