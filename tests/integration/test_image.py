"""The image: what is in it, and each service of docker-compose.yml and pod of Kubernetes at work in it.

A new clone builds it for minutes: `make image-test` runs this, and `make test` does not.
"""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import wait_until
from dingrelay_producers import State
from dingrelay_producers.store import keys, record
from dingrelay_tasks import MessageSend, UserSync
from dingrelay_tasks.contract import Json
from support import manifests, sandboxes
from support.containers import ROOT, Builder, Container, Image, Service
from support.network import Network
from support.production import Production, production
from support.servers import program

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("IMAGE_TEST"), reason="`make image-test` runs it"),
]

EXTRAS = "dingrelay[worker,gateway,flower,postgres,otel,oidc]"
LARGEST = 200_000_000
"""Bytes that it may add to its base."""
VERSION = "3.13"
PYTHON = f"/opt/dingrelay/lib/python{VERSION}/site-packages"
UNCHECKED = 1
"""The flags of a compiled module that is used whatever the time of its source (PEP 552)."""
FOLDER_OF_SECRETS = "/run/secrets/"
TRUSTED = "/etc/dingtalk.pem"
"""All that a container has here and not in production is this file, and SSL_CERT_FILE with its name:
DingTalk's certificate is a test's."""
PAUSE = 1.5
"""Seconds between two looks into a container: each starts an interpreter there."""
PROCESSES = ("sh", "-c", "echo /proc/[0-9]*")
GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).status)"
POST = """
import sys, urllib.request as u
asked = u.Request("http://127.0.0.1:8610/v1/messages?wait=30", sys.argv[2].encode())
asked.add_header("Authorization", f"Bearer {sys.argv[1]}")
asked.add_header("Content-Type", "application/json")
print(u.urlopen(asked, timeout=60).read().decode())
"""
CONNECT = "import sys, socket as s; s.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
POD_ADDRESS = "127.0.0.2"
"""A probe comes to the pod's address: who listens on 127.0.0.1 alone does not hear it."""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    builder = Builder()
    try:
        yield builder.build()
    finally:
        builder.close()


@pytest.fixture
def servers(tmp_path: Path, postgres_url: str) -> Iterator[Production]:
    with production(tmp_path, postgres_url) as found:
        yield found


class Started:
    """Containers that a test starts, each with a network of its own; all end with the test."""

    def __init__(self, image: Image, servers: Production, folder: Path, stack: ExitStack) -> None:
        self._image, self._servers, self._folder, self._stack = image, servers, folder, stack
        self.all: dict[str, Container] = {}

    def start(self, service: Service) -> Container:
        network = self._stack.enter_context(Network(self._servers.ports))
        service = replace(
            service,
            variables={**service.variables, "SSL_CERT_FILE": TRUSTED},
            files={**service.files, TRUSTED: self._servers.authority},
        )
        made = Container(self._image, network, service, self._folder)
        self.all[service.name] = self._stack.enter_context(made)
        return made

    def logs(self) -> str:
        return "\n".join(each.log.read_text() for each in self.all.values())


@pytest.fixture
def started(image: Image, servers: Production, tmp_path: Path) -> Iterator[Started]:
    with ExitStack() as stack:
        found = Started(image, servers, tmp_path / "containers", stack)
        yield found
    logs = found.logs()
    assert servers.leaked(logs) == []
    assert "Traceback" not in logs


def installed(image: Image) -> dict[str, Any]:
    """Installed distributions by Python's account: name → metadata."""
    there = distributions(path=[str(image.root / PYTHON.lstrip("/"))])
    return {canonicalize_name(each.metadata["Name"]): each.metadata for each in there}


def needed(found: Mapping[str, Any]) -> set[str]:
    """Distributions that our package and its extras need, directly and indirectly."""
    there = {"python_version": VERSION, "python_full_version": f"{VERSION}.0"}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(EXTRAS)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in found[name].get_all("Requires-Dist") or ():
                requirement = Requirement(text)
                if not requirement.marker or requirement.marker.evaluate(there | {"extra": extra}):
                    waiting.append(requirement)
    return {name for name, _ in seen}


def locked() -> dict[str, set[str]]:
    """Name → versions in requirements.lock; a marker may choose between them."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "requirements.lock").read_text("utf-8")
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_it_holds_what_is_locked_and_needed_and_its_sbom_names_all_of_it(image: Image) -> None:
    found = installed(image)
    own = found["dingrelay"]["Version"]
    versions = {name: metadata["Version"] for name, metadata in found.items()}
    assert versions.keys() == needed(found), "no pip, no tests, no more than is needed"
    assert all(
        version in locked()[name] for name, version in versions.items() if name != "dingrelay"
    )
    sbom = json.loads((image.root / "opt/dingrelay/sbom.cdx.json").read_text("utf-8"))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    root = sbom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("dingrelay", own)
    listed = [(canonicalize_name(each["name"]), each["version"]) for each in sbom["components"]]
    assert sorted(listed) == sorted(each for each in versions.items() if each[0] != "dingrelay")
    assert all(each["purl"].startswith("pkg:pypi/") for each in sbom["components"])


def test_it_is_small_and_ready_to_run_where_nothing_can_be_written(image: Image) -> None:
    assert image.size < LARGEST, "tell its new size in the guide, too"
    assert image.config["User"] == "10001:10001"
    # Else each start would compile them again, as the times of files in layers are rounded.
    library = image.root / f"usr/lib/python{VERSION}"
    for folder, name in ((image.root / PYTHON.lstrip("/"), "dingrelay_*"), (library, "email")):
        modules = list(folder.glob(f"{name}/**/*.py"))
        assert len(modules) > 10
        for module in modules:
            (compiled,) = module.parent.glob(f"__pycache__/{module.stem}.cpython-*.pyc")
            assert int.from_bytes(compiled.read_bytes()[4:8], "little") == UNCHECKED, module
    for each in (image.root / "opt/dingrelay").rglob("*"):
        mode = each.lstat().st_mode
        assert stat.S_ISLNK(mode) or (each.lstat().st_uid, mode & 0o022) == (0, 0), each
    assert not (image.root / "src").exists()


@pytest.fixture
def composed(servers: Production) -> Json:
    """docker-compose.yml as Docker Compose understands it."""
    folder = servers.secrets.parent
    (folder / "ops").symlink_to(ROOT / "ops")
    done = subprocess.run(
        [program("docker-compose"), "--file", str(ROOT / "docker-compose.yml"),
         "--project-directory", str(folder), "config", "--format", "json"],
        env={**os.environ, "DINGTALK_AGENT_ID": sandboxes.AGENT_ID},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout)
    return found


def as_composed(composed: Json, name: str) -> Service:
    """A service as Docker would run it."""
    service = composed["services"][name]
    # All that is played whatever the file says.
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    files = {}
    for kind in ("secrets", "configs"):
        for given in service.get(kind, ()):
            target = given.get("target") or given["source"]
            to = target if target.startswith("/") else FOLDER_OF_SECRETS + target
            files[to] = Path(composed[kind][given["source"]]["file"])
    return Service(
        name, service["command"], service["environment"], files, init=service.get("init", False)
    )


def message(lane: str, text: str) -> dict[str, Any]:
    content = {"msgtype": "text", "text": {"content": text}}
    return {"to": {"users": ["u1"]}, "message": content, "lane": lane}


def wait_for(container: Container, *command: str) -> None:
    """Wait until a command succeeds there; the container must not end before."""

    def succeeds() -> bool:
        assert container.process.poll() is None, container.log.read_text()
        return container.run(*command).returncode == 0

    wait_until(succeeds, timeout=90, what=f"{container.name}: {command}", pause=PAUSE)


def test_each_compose_service_works(composed: Json, servers: Production, started: Started) -> None:
    ours = [
        name
        for name, each in composed["services"].items()
        if each["image"].startswith("dingrelay") and not each.get("entrypoint")
    ]
    for name in ours:
        started.start(as_composed(composed, name))
    for name in ours:
        if check := composed["services"][name].get("healthcheck"):
            assert check["test"][0] == "CMD"
            wait_for(started.all[name], *check["test"][1:])
    wait_for(started.all["flower"], "python", "-c", CONNECT, POD_ADDRESS, "5555")

    webhooks, endpoint = started.all["worker-webhooks"], "celery://crm/crm.heard"
    added = webhooks.run("dingrelay", "webhook", "create", endpoint, "--type", "job.*")
    assert added.returncode == 0, added.stderr
    sandbox, lanes = servers.sandbox, ("urgent", "normal", "bulk")
    jobs = [MessageSend.parse(message(lane, lane)) for lane in lanes]
    sent = [servers.client.send(job) for job in (*jobs, UserSync(scope="user", user="u1"))]
    assert {job.wait(60).state for job in sent} == {State.DONE}
    assert len(sandbox.inbox("u1")["delivered"]) == 3
    wait_until(lambda: any(each["state"] == "open" for each in sandbox.streams()))
    event = sandbox.fire("user_modify_org", userId=["u2"])
    job = keys.job(record.keyed_id("default", "event", event))
    wait_until(lambda: servers.valkey.hget(job, "state") == b"done", what="the event is heard")
    wait_until(lambda: servers.valkey.llen("crm"), what="notices are published")

    gateway = started.all["gateway"]
    made = gateway.run("dingrelay", "key", "create", "crm", "--scope", "*", "--json")
    body = json.dumps(message("normal", "HTTP"))
    posted = gateway.run("python", "-c", POST, json.loads(made.stdout)["key"], body)
    assert json.loads(posted.stdout)["state"] == "done", posted.stderr
    doctor = webhooks.run("dingrelay", "doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "every lane is served" in doctor.stdout

    for each in started.all.values():
        # The init, the program and who asks: no children, and no zombie.
        assert len(each.run(*PROCESSES).stdout.split()) == 3
    for name, each in started.all.items():
        assert each.stop(grace(composed, name)) == 0, each.log.read_text()


def grace(composed: Json, name: str) -> float:
    """Seconds that Docker gives a service to end."""
    text = composed["services"][name].get("stop_grace_period", "10s")
    assert re.fullmatch(r"\d+s", text), text
    return float(text[:-1])


def as_pod(name: str, servers: Production, folder: Path) -> Service:
    """The container of a Deployment as a node would run it."""
    pod, container = manifests.pod(name), manifests.container(name)
    safe, user = container["securityContext"], pod["securityContext"]
    # All that is played whatever the manifest says.
    assert safe["readOnlyRootFilesystem"]
    assert safe["capabilities"] == {"drop": ["ALL"]}
    assert not safe["allowPrivilegeEscalation"]
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    folder.mkdir()
    files = {}
    for item in manifests.secret(name)["items"]:
        file = folder / item["path"]
        file.write_bytes((servers.secrets / item["key"]).read_bytes())
        os.chown(file, 0, user["fsGroup"])
        file.chmod(manifests.secret(name)["defaultMode"])
        files[f"{mounted['secrets']}/{item['path']}"] = file
    if "settings" in mounted:
        (settings,) = (each["configMap"] for each in pod["volumes"] if each["name"] == "settings")
        for key, text in manifests.CONFIGURED[settings["name"]].items():
            (folder / key).write_text(text)
            files[f"{mounted['settings']}/{key}"] = folder / key
    return Service(
        name,
        container["args"],
        manifests.variables(name) | {"DINGTALK_AGENT_ID": sandboxes.AGENT_ID},
        files,
        user=(user["runAsUser"], user["runAsGroup"]),
    )


def probing(name: str, probe: Json) -> tuple[str, ...]:
    """The command that does what a probe of the manifest does."""
    ports = {each["name"]: each["containerPort"] for each in manifests.container(name)["ports"]}
    if http := probe.get("httpGet"):
        return "python", "-c", GET, f"http://{POD_ADDRESS}:{ports[http['port']]}{http['path']}"
    return "python", "-c", CONNECT, POD_ADDRESS, str(ports[probe["tcpSocket"]["port"]])


def test_each_pod_works(servers: Production, started: Started, tmp_path: Path) -> None:
    kinds: dict[str, str] = {}
    for name in manifests.DEPLOYMENTS:
        kinds.setdefault(manifests.container(name)["args"][0], name)
    assert kinds.keys() == {"worker", "gateway", "console", "events", "flower"}
    for name in kinds.values():
        started.start(as_pod(name, servers, tmp_path / name))
    for name in kinds.values():
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if spec := manifests.container(name).get(kind):
                wait_for(started.all[name], *probing(name, spec))
    job = servers.client.send(MessageSend.parse(message("urgent", "from a pod")))
    assert job.wait(60).state == State.DONE
    for name, each in started.all.items():
        # Without an init: the program gets the signal itself, and has no child to wait for.
        assert len(each.run(*PROCESSES).stdout.split()) == 2
        seconds = manifests.pod(name)["terminationGracePeriodSeconds"]
        assert each.stop(seconds) == 0, each.log.read_text()


def test_process_1_ends_at_once_while_it_starts(composed: Json, started: Started) -> None:
    service = replace(as_composed(composed, "worker-urgent-normal"), init=False)
    worker = started.start(service)
    # The first ones come before Python runs, or even the container.
    wait_until(lambda: worker.terminate() or worker.process.poll() is not None, pause=0.05)
    assert worker.process.returncode == 128 + signal.SIGTERM
    assert worker.log.read_text() == ""


def test_a_worker_writes_nowhere_and_may_be_anybody(
    composed: Json, servers: Production, started: Started, tmp_path: Path
) -> None:
    name = "worker-urgent-normal"
    service = as_composed(composed, name)
    # A cluster may give a user that the image does not know, in the group of root, and no home.
    worker = started.start(replace(service, name="worker", user=(54_321, 0), init=False))
    wait_until(lambda: '"worker_ready"' in worker.log.read_text(), timeout=90)
    for command, refusal in (
        ("echo > /opt/dingrelay/new", "Read-only file system"),
        ("cp /bin/true /tmp/true && /tmp/true", "Permission denied"),
    ):
        refused = worker.run("sh", "-c", command)
        assert refused.returncode, command
        assert refusal in refused.stderr
    # A file that only another may read is named by its variable, in one line.
    unreadable = tmp_path / "unreadable"
    unreadable.write_text("secret")
    unreadable.chmod(0o400)
    files = {**service.files, FOLDER_OF_SECRETS + "app_secret": unreadable}
    refused = started.start(replace(service, name="refused", files=files, init=False))
    assert refused.process.wait(60) == 2
    assert refused.log.read_text() == "DINGTALK_APP_SECRET_FILE: Permission denied\n"
    assert worker.stop(grace(composed, name)) == 0
