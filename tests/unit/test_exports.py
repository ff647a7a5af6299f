"""Public imports for business applications, and the schemas of their jobs."""

from contextlib import nullcontext

import pytest
from jsonschema import Draft202012Validator

import dingrelay_producers
import dingrelay_tasks
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS, schemas

WANTED = dict(schemas())


def test_every_public_name_of_the_producers_is_there() -> None:
    for name in dingrelay_producers.__all__:
        assert getattr(dingrelay_producers, name).__name__ == name
    assert dir(dingrelay_producers) == sorted(dingrelay_producers.__all__)


def test_every_public_name_of_the_tasks_is_there() -> None:
    names = dingrelay_tasks.__all__
    assert sorted(names) == names
    assert {"ApprovalCreate", "ContractError", "MessageSend", "UserSync"} <= set(names)
    assert all(hasattr(dingrelay_tasks, name) for name in names)


def test_another_name_is_an_attribute_error() -> None:
    name = "Sender"
    with pytest.raises(AttributeError, match=name):
        getattr(dingrelay_producers, name)


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
