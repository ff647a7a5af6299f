"""Examples of what a model takes, and of what it refuses, from its JSON schema."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel

MOMENT = (datetime.now(UTC) + timedelta(hours=1)).replace(second=0, microsecond=0)
MISSING = object()
WORDS = ("x", "a b", "a\nb")


def examples(model: type[BaseModel]) -> dict[str, Any]:
    """A good value of each field, another one for each name where it can be any."""
    return {name: _good(name, schema) for name, schema in _schemas(model).items()}


def refused(model: type[BaseModel], *kinds: Literal["type", "text"]) -> list[tuple[str, Any]]:
    """Values that are refused, each with its field; `MISSING` for none.

    Args:
        model: takes none of them.
        kinds: values of another type, or texts that can't be read.
    """
    wrongs = [{"type": _wrong_type, "text": _wrong_text}[kind] for kind in kinds]
    schemas = _schemas(model).items()
    values = [(name, wrong(schema)) for wrong in wrongs for name, schema in schemas]
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return [pair for pair in values if pair[1] is not None] + [(name, MISSING) for name in required]


def _schemas(model: type[BaseModel]) -> Mapping[str, dict[str, Any]]:
    """The schema of each field; of one that may be null, that of its values."""
    properties = model.model_json_schema()["properties"]
    return {name: schema.get("anyOf", [schema])[0] for name, schema in properties.items()}


def _good(name: str, schema: Mapping[str, Any]) -> Any:
    if chosen := schema.get("enum") or schema.get("examples"):
        return chosen[0]
    match schema["type"], schema.get("format"):
        case "array", _:
            return [_good(name, schema["items"])]
        case "object", _:
            return {"msgtype": "text"} if schema["additionalProperties"] is True else {"x": "y"}
        case "boolean", _:
            return True
        case (("integer" | "number"), _):
            return len(name)
        case _, "date-time":
            return MOMENT.isoformat()
        case _:
            return name * (schema.get("minLength", 1) // len(name) + 1)


def _wrong_type(schema: Mapping[str, Any]) -> Any:
    return "x" if schema["type"] == "object" else {"x": "y"}


def _wrong_text(schema: Mapping[str, Any]) -> Any:
    match schema["type"]:
        case "array":
            wrong = _wrong_text(schema["items"])
            return None if wrong is None else [wrong]
        case "boolean":
            return None
        case "string" if not schema.keys() & {"enum", "format"}:
            words = [word for word in WORDS if not re.search(schema.get("pattern", ""), word)]
            longest = schema.get("maxLength", 0)
            return words[0] if words else "x" * (longest + 1) if longest else None
        case _:
            return "no such value"
