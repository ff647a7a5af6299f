"""People by mobile number, e-mail address and job number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_tasks import addresses
from dingrelay_workers.directory.addresses import columns


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("13800000000", "+86-13800000000"),
        ("138 0000 0000", "+86-13800000000"),
        ("138-0000-0000", "+86-13800000000"),
        ("+8613800000000", "+86-13800000000"),
        ("+86 138 0000 0000", "+86-13800000000"),
        ("+86-138-0000-0000", "+86-13800000000"),
        ("8613800000000", "+86-13800000000"),
        ("86-138-0000-0000", "+86-13800000000"),
        ("008613800000000", "+86-13800000000"),
        ("0086 138 0000 0000", "+86-13800000000"),
        ("+852-5123 4567", "+852-51234567"),
        ("+1-415-555-0100", "+1-4155550100"),
    ],
)
def test_spellings_of_one_number_are_one(text: str, compared: str) -> None:
    assert addresses.mobile(text) == compared
    assert addresses.mobile(compared) == compared


@pytest.mark.parametrize(
    "text",
    [
        "",
        "u1",
        "+85251234567",
        "0085251234567",
        "00 852 51234567",
        "1234",
        "１３８００００００００",
        "+0-12345",
    ],
)
def test_wrong_numbers_and_unknown_countries_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a mobile number"):
        addresses.mobile(text)


def test_addresses_are_read_as_dingtalk_spells_them() -> None:
    fields = {
        "mobile": "51234567",
        "state_code": "852",
        "email": "Zhang@Example.com",
        "org_email": "zhang@corp.example",
        "job_number": " 0042 ",
    }
    assert columns(fields) == {
        "mobile": "+852-51234567",
        "email": "zhang@example.com",
        "org_email": "zhang@corp.example",
        "job_number": "0042",
    }
    assert columns({"mobile": "+852-5123 4567"})["mobile"] == "+852-51234567"
    none = {"mobile": None, "email": "", "job_number": "x" * 51, "org_email": 7}
    assert set(columns(none).values()) == {None}


@given(st.text())
def test_any_text_is_an_address_that_stays_itself_or_none(text: str) -> None:
    for parse in addresses.PARSERS.values():
        try:
            compared = parse(text)
        except ValueError:
            continue
        assert parse(compared) == compared
