"""Error messages for the author of a value: pydantic's own name Python's types."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOMENT = "must be a date and time such as 2026-01-31T09:00:00+08:00"
NUMBER = "must be a number"
WHOLE = "must be a whole number"
BOOLEAN = "must be true or false"
TEXT = "must be a text"
LIST = "must be a list"
OBJECT = "must be an object"

_SENTENCES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "there is no such field",
    "string_type": TEXT,
    "string_unicode": "must be Unicode text",
    "string_too_long": "may have {max_length:,} characters at most",
    "string_too_short": "must have {min_length:,} characters or more",
    "string_pattern_mismatch": "is not spelled as it must be: {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": "is too large",
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": BOOLEAN,
    "bool_parsing": BOOLEAN,
    "list_type": LIST,
    "tuple_type": LIST,
    "dict_type": OBJECT,
    "mapping_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "too_long": "may have {max_length:,} entries at most",
    "too_short": "must have {min_length:,} entries or more",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "datetime_type": MOMENT,
    "datetime_parsing": MOMENT,
    "datetime_from_date_parsing": MOMENT,
    "datetime_object_invalid": MOMENT,
    "timezone_aware": "needs its time zone, as in 2026-01-31T09:00:00+08:00",
    "date_type": "must be a date such as 2026-01-31",
    "date_parsing": "must be a date such as 2026-01-31",
    "date_from_datetime_parsing": "must be a date such as 2026-01-31",
}
"""Type of pydantic's error → the sentence, with the bound from its context."""


def sentence(found: "ErrorDetails") -> str:
    """What is wrong, without the value, which may be a secret.

    Errors of our own validators keep their words; so does what is not in the table.
    """
    context: Mapping[str, Any] = found.get("ctx", {})
    if found["type"] == "string_too_short" and context.get("min_length") == 1:
        return "must not be empty"
    template = _SENTENCES.get(found["type"])
    if template is None:
        return found["msg"].removeprefix("Value error, ")
    return template.format(**context)
