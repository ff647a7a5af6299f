"""The samples of docs/samples as their READMEs run them: each sends, waits, receives signed notices and creates an approval."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import wait_until
from dingrelay_producers.testing.fixtures import started
from dingrelay_sandbox.admin import SandboxAdmin
from support import processes
from support.gateways import ask
from support.servers import free_port, program

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "docs/samples"
PYTHON = ROOT / ".venv/samples/bin/python"
"""Has what the samples in Python need, beside dingrelay."""
JARS = "/usr/share/java/jackson-{}.jar"
"""Debian's, instead of Maven's."""
CLASSPATH = ":".join(JARS.format(part) for part in ("core", "annotations", "databind"))
LISTENING = re.compile(r"gateway listening on (\S+)")


@dataclass(frozen=True)
class Sample:
    """How a sample is run.

    Attributes:
        program: what it needs.
        run: its command, with ``{port}``.
        build: the command before that.
    """

    program: str
    run: Sequence[str]
    build: Sequence[str] = ()


BY_NAME: Mapping[str, Sample] = {
    "java": Sample(
        "javac",
        ["java", "-cp", f"classes:{CLASSPATH}", "Orders"],
        build=[
            *("javac", "-encoding", "UTF-8", "-Xlint:all", "-Werror", "-cp", CLASSPATH),
            *("-d", "classes", "src/main/java/Orders.java"),
        ],
    ),
    "go": Sample("go", ["./orders"], build=["go", "build", "-o", "orders", "."]),
    "php": Sample("php", ["php", "-S", "127.0.0.1:{port}", "index.php"]),
    "node": Sample("node", ["node", "server.mjs"]),
    "django": Sample(str(PYTHON), [str(PYTHON), "orders.py", "runserver", "--noreload", "{port}"]),
    "fastapi": Sample(str(PYTHON), [str(PYTHON), "-m", "uvicorn", "app:app", "--port", "{port}"]),
}


@dataclass(frozen=True)
class System:
    """Environment that the samples run against.

    Attributes:
        variables: of a program that finds it, with the gateway and its key.
    """

    variables: Mapping[str, str]
    gateway: int
    sandbox: SandboxAdmin

    def run(self, *arguments: str) -> Any:
        """A command's answer."""
        command = [sys.executable, "-m", "dingrelay_producers.cli", *arguments, "--json"]
        env = {**os.environ, **self.variables}
        done = processes.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with started(tmp_path) as variables:
        (url,) = LISTENING.findall((tmp_path / "output.txt").read_text("utf-8"))
        key = (tmp_path / "gateway-key").read_text("utf-8").strip()
        sandbox = SandboxAdmin(variables["DINGTALK_OAPI_URL"])
        gateway = int(url.rpartition(":")[2])
        with _busy(gateway) as busy:
            yield System({**variables, "GATEWAY": busy, "KEY": key}, gateway, sandbox)
        sandbox.close()


@contextmanager
def _busy(gateway: int) -> Iterator[str]:
    """URL in front of the gateway that says of each key first that its request is under way."""
    keys: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            key = self.headers["Idempotency-Key"]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if key in keys:
                names = ("Authorization", "Content-Type", "Accept-Language", "Idempotency-Key")
                headers = {name.replace("-", "_"): self.headers[name] for name in names}
                answer = ask(gateway, "POST", self.path, body, timeout=60, **headers)
                status, content = answer.status, answer.content
            else:
                status, content = 409, json.dumps({"detail": f"{key}: under way"}).encode()
            self.send_response(status)
            if status == 409:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            keys.add(key)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_sample_needs_is_here(name: str) -> None:
    """The test below leaves a sample out whose toolchain is missing."""
    program(BY_NAME[name].program)


def test_every_sample_is_run() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} == set(BY_NAME)


@pytest.mark.timeout(300)  # Go compiles its library, and Java its program
def test_the_samples_work(system: System, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = {
            name: _start(name, sample, system, tmp_path / "samples", stack)
            for name, sample in BY_NAME.items()
            if shutil.which(sample.program)
        }
        for name, port in ports.items():
            wait_until(lambda port=port: _responds(port), timeout=60, what=f"{name} listens")
        for number, (name, port) in enumerate(ports.items(), 1):
            _try(name, port, system, number)


def _start(name: str, sample: Sample, system: System, folder: Path, stack: ExitStack) -> int:
    """Start a copy of a sample, whose endpoint has its secret; its port."""
    copy = shutil.copytree(SAMPLES / name, folder / name)
    port = free_port()
    endpoint = system.run(
        *("webhook", "create", f"http://127.0.0.1:{port}/dingrelay"),
        *("--type", "job.done,approval.approved", "--name", name),
    )
    env = {**os.environ, **system.variables, "PORT": str(port), "SECRET": endpoint["secret"]}
    env["PYTHONPATH"] = f"{ROOT / 'tasks'}:{ROOT / 'producers'}"
    # PHP's own server would answer one request at a time.
    env |= {"GOFLAGS": "-mod=mod", "PHP_CLI_SERVER_WORKERS": "4"}
    if sample.build:
        built = subprocess.run(
            sample.build,
            cwd=copy,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert built.returncode == 0, f"{name}: {built.stdout}{built.stderr}"
    command = [argument.format(port=port) for argument in sample.run]
    if name != "php":  # its server starts without the script
        nameless = {variable: value for variable, value in env.items() if variable != "SECRET"}
        refused = processes.run(
            command, cwd=copy, env=nameless, capture_output=True, text=True, timeout=60
        )
        assert refused.returncode, name
        assert "请设置环境变量 SECRET" in refused.stdout + refused.stderr, name
    log = stack.enter_context((copy / "output.txt").open("wb"))
    process = subprocess.Popen(
        command, cwd=copy, env=env, stdout=log, stderr=log, start_new_session=True
    )
    stack.callback(_stop, process)
    return port


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # The whole group: PHP's server has children.
    os.killpg(process.pid, 15)
    process.wait(20)


def _responds(port: int) -> bool:
    try:
        return ask(port, "GET", "/notices", timeout=5).status == 200
    except OSError:
        return False


def _try(name: str, port: int, system: System, number: int) -> None:
    user = f"u{number}"
    job = ask(port, "POST", f"/orders/47{number}/paid?user={user}", {}, timeout=60).json
    assert job["state"] == "done", (name, job)
    again = ask(port, "POST", f"/orders/47{number}/paid?user={user}", {}, timeout=60).json
    assert again["id"] == job["id"], name
    (message,) = system.sandbox.inbox(user)["delivered"]
    assert message["message"]["text"]["content"].startswith(f"订单 47{number} 已付款"), name

    leave = ask(port, "POST", f"/leaves/{number}?user={user}&days=2", {}, timeout=60).json
    assert leave["state"] == "done", (name, leave)
    missing = ask(port, "POST", f"/leaves/{number}?user={user}", {}, timeout=60)
    assert missing.status == (422 if name == "fastapi" else 400), (name, missing.content)
    failed = ask(port, "POST", f"/leaves/9{number}?user=stranger&days=2", {}, timeout=60)
    assert failed.status == 502, (name, failed.content)
    assert failed.json["detail"].startswith("任务状态为 dead："), name
    assert not failed.json["detail"].endswith("："), name
    instance = leave["result"]["instance_id"]
    system.sandbox.advance(instance, "agree", to_end=True)

    def notices() -> set[tuple[str, str]]:
        answer: Any = ask(port, "GET", "/notices").json
        return {
            (notice["type"], notice["data"].get("id", notice["data"].get("instance")))
            for notice in answer
        }

    expected = {("job.done", job["id"]), ("job.done", leave["id"]), ("approval.approved", instance)}
    wait_until(lambda: expected <= notices(), timeout=60, what=f"{name} has {expected}")
    forged = {"webhook_id": "msg_1", "webhook_timestamp": "1767225600"}
    answer = ask(port, "POST", "/dingrelay", {}, webhook_signature="v1,AAAA", **forged)
    assert answer.status == 401, name
    assert all(identity for _, identity in notices()), name
