"""Values of a CSV that spreadsheets would execute."""

import pytest

from dingrelay_producers.spreadsheet import csv_line


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r"])
def test_no_value_is_a_formula(sign: str) -> None:
    assert f"'{sign}HYPERLINK" in csv_line([f"{sign}HYPERLINK(1)"])
    assert csv_line([f"a{sign}b", 1]).startswith(("a", '"a'))
