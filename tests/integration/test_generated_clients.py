"""Clients that others' generators make of the gateway's document: they compile, and have its operations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dingrelay_workers.gateway import openapi
from dingrelay_workers.gateway.server import ROUTES
from support.servers import program

VENV = Path(__file__).parents[2] / ".venv"
SAMPLES = VENV / "samples/bin"
NODE = VENV / "node/node_modules/.bin"
NO_BODY_OF_ONE_TYPE = "POST /v1/jobs"
"""Takes JSON lines, for which the generator has no type; it says so, and leaves the operation out."""
IN_TYPESCRIPT = """
import type { paths } from "./api";
type Json<T> = T extends { content: { "application/json": infer U } } ? U : never;
type Send = paths["/v1/messages"]["post"];
const job: Json<Send["requestBody"]> = {
  to: { users: ["u1"] },
  message: { msgtype: "text", text: { content: "你好" } },
};
export function done(status: Json<Send["responses"][200]>): boolean {
  return status.state === "done" && job !== null;
}
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(openapi.document(ROUTES), ensure_ascii=False), "utf-8")
    return path


def _run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_types_for_typescript(document: Path) -> None:
    program("npm")
    folder = document.parent
    _run(
        *(NODE / "openapi-typescript", document, "--default-non-nullable=false", "-o", "api.d.ts"),
        folder=folder,
    )
    (folder / "use.ts").write_text(IN_TYPESCRIPT, "utf-8")
    _run(NODE / "tsc", "--noEmit", "--strict", "use.ts", "api.d.ts", folder=folder)


def test_a_client_for_python(document: Path) -> None:
    folder = document.parent
    said = _run(
        *(SAMPLES / "openapi-python-client", "generate", "--path", document),
        *("--output-path", "client"),
        folder=folder,
    )
    warned = [line for line in said.splitlines() if line.startswith(("WARNING", "Unable"))]
    assert warned == [
        f"WARNING parsing {NO_BODY_OF_ONE_TYPE} within jobs. Endpoint will not be generated."
    ]
    _run(
        *(sys.executable, "-m", "mypy", "--python-executable", SAMPLES / "python"),
        *("--no-incremental", "client/dingrelay_client"),
        folder=folder,
    )
    modules = {path.stem for path in (folder / "client/dingrelay_client/api").rglob("*.py")}
    assert {"send_message", "get_job", "create_campaign"} <= modules
