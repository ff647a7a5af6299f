"""The JSON Schema of every public kind and of its result, kept as files beside this one.

``python -m dingrelay_tasks.schema`` rewrites the files.
"""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from dingrelay_tasks.api_call import ApiCall, ApiCallResult
from dingrelay_tasks.approval_create import ApprovalCreate, ApprovalCreateResult
from dingrelay_tasks.contract import Contract, Part
from dingrelay_tasks.message_result import MessageSendResult
from dingrelay_tasks.message_send import MessageSend
from dingrelay_tasks.user_sync import UserSync, UserSyncResult

DIALECT = "https://json-schema.org/draft/2020-12/schema"

RESULTS: dict[type[Contract], type[Part]] = {
    ApiCall: ApiCallResult,
    ApprovalCreate: ApprovalCreateResult,
    MessageSend: MessageSendResult,
    UserSync: UserSyncResult,
}
"""Every public contract and what its job results in."""


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and content of every schema, such as ``message-send.json``."""
    for contract, result in RESULTS.items():
        yield f"{contract.kind}.json", {"$schema": DIALECT, **contract.model_json_schema()}
        yield (
            f"{contract.kind}.result.json",
            {"$schema": DIALECT, **result.model_json_schema(mode="serialization")},
        )


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
