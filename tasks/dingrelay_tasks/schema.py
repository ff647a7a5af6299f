"""The JSON Schema of every public kind and of its result, kept as files beside this one.

``python -m dingrelay_tasks.schema`` rewrites the files.
"""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from dingrelay_tasks.kinds import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and content of every schema, such as ``message-send.json``."""
    for kind in KINDS.values():
        if kind.is_public and kind.result is not None:
            yield f"{kind.name}.json", {"$schema": DIALECT, **kind.contract.model_json_schema()}
            result = kind.result.model_json_schema(mode="serialization")
            yield f"{kind.name}.result.json", {"$schema": DIALECT, **result}


def text(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def write(folder: Path) -> None:
    """Write every schema into the folder."""
    folder.mkdir(exist_ok=True)
    for name, schema in schemas():
        folder.joinpath(name).write_text(text(schema), "utf-8")


if __name__ == "__main__":
    with resources.as_file(resources.files("dingrelay_tasks")) as package:
        write(package / "schemas")
