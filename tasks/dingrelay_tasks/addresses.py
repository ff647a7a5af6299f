"""Addresses of people: mobile number, e-mail address, job number.

DingTalk sends to userids only (API §2.1). A business system that does not store them gives one of
these, and the job looks the person up when it runs.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

AddressKind = Literal["mobile", "email", "job_number"]
Reason = Literal["unknown", "ambiguous", "hidden"]
"""Why an address does not resolve: no user has it, several have, or the app may not see the user."""

CHINA = "86"
"""The country of a number that names none."""

MOBILE = (
    r"^(?:(?:\+86[- ]?|\+[1-9][0-9]{0,3}-)?"
    r"(?:[1-9](?:[- ]?[0-9]){4,19}|0[- ]?[1-9](?:[- ]?[0-9]){3,18})"
    r"|0[- ]?0[- ]?8[- ]?6[- ]?1(?:[- ]?[0-9]){10})$"
)
EMAIL = r"^[^\s@,\x00-\x1f\x7f]{1,64}@[^\s@,\x00-\x1f\x7f]{1,190}$"
JOB_NUMBER = r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,48}[^\s\x00-\x1f\x7f])?$"
"""How addresses are written. Other countries' codes need a hyphen behind them, also after 00: without it the
end of the code is ambiguous. China's needs none."""


_WITH_86 = re.compile(r"(?:00)?86(1[0-9]{10})")
"""A Chinese number with its country but no plus sign: one of 11 digits can't begin so."""


def mobile(text: str) -> str:
    """A mobile number as it is compared: ``+86-13800000000``.

    Raises:
        ValueError: it is none, or its country is ambiguous.
    """
    if not re.fullmatch(MOBILE, text, re.ASCII):
        raise ValueError("must be a mobile number such as 13800000000 or +852-51234567")
    if text.startswith("+") and not text.startswith("+86"):
        country, number = text.split("-", 1)
        return f"{country}-{re.sub('[- ]', '', number)}"
    digits = re.sub("[- ]", "", text).removeprefix("+86")
    if chinese := re.fullmatch(_WITH_86, digits):
        digits = chinese[1]
    return f"+{CHINA}-{digits}"


def email(text: str) -> str:
    """An e-mail address as it is compared: in small letters.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(EMAIL, text):
        raise ValueError("must be an e-mail address")
    return text.casefold()


def job_number(text: str) -> str:
    """A job number, which is compared as it is.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(JOB_NUMBER, text):
        raise ValueError("must be a job number: up to 50 characters without a blank at either end")
    return text


PARSERS: Mapping[AddressKind, Callable[[str], str]] = {
    "mobile": mobile,
    "email": email,
    "job_number": job_number,
}
"""How each kind of address is read; also the names of columns in files."""

# The pattern is for the schema only: what the parser says of a wrong address is easier to read.
Mobile = Annotated[str, Field(json_schema_extra={"pattern": MOBILE}), AfterValidator(mobile)]
Email = Annotated[str, Field(json_schema_extra={"pattern": EMAIL}), AfterValidator(email)]
JobNumber = Annotated[
    str, Field(json_schema_extra={"pattern": JOB_NUMBER}), AfterValidator(job_number)
]


def mobile_of(fields: Mapping[str, object]) -> str | None:
    """The mobile number with its country, from DingTalk's fields of a person (API §3.1)."""
    number = fields.get("mobile")
    if not isinstance(number, str) or not number:
        return None
    if number.startswith("+"):
        return number
    return f"+{str(fields.get('state_code') or CHINA).lstrip('+')}-{number}"
