"""Containers of the image, run by a runtime of the OCI as Docker and Kubernetes have them run.

The root is read-only, the user has no capability and gets none, and all that is written goes to /tmp,
where nothing can be executed. Limits of memory and CPU time, users' namespaces, seccomp and the
network between containers are not played.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from image import Image
from network import Network
from servers import program

INIT = "/sbin/docker-init"
"""Docker's path of the init program, tini, that it runs as process 1 if `init` is set."""
HOSTS = "127.0.0.1 localhost valkey postgres oapi.dingtalk.com api.dingtalk.com\n"
NO_CGROUPS = (
    "unshare", "--mount", "--propagation", "private",
    "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh",
)  # fmt: skip
"""Runs a command that sees none: crun has no use for them here, and refuses a machine with those of both versions."""
NAMESPACES = ("pid", "ipc", "uts", "mount")
UNSAFE = ("nosuid", "nodev", "noexec")
MOUNTS = (
    ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    # Docker's own options of a tmpfs, and a size that shows who fills it.
    ("/tmp", "tmpfs", [*UNSAFE, "mode=1777", "size=65536k"]),
)


@dataclass(frozen=True)
class Service:
    """A program to run.

    Attributes:
        arguments: of the image's own program.
        variables: beside those of the image.
        files: path there → file here.
        user: and group; those of the image by default.
        init: whether process 1 is Docker's, and the program its child.
    """

    name: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    user: tuple[int, int] | None = None
    init: bool = False


class Container:
    """One that runs, while a `with` block lasts."""

    def __init__(self, image: Image, network: Network, service: Service, folder: Path) -> None:
        self.name = service.name
        self._runtime = [*NO_CGROUPS, program("crun"), "--cgroup-manager=disabled"]
        self._runtime += ["--root", str(folder / "runtime")]
        bundle = folder / service.name
        bundle.mkdir(parents=True)
        hosts = bundle / "hosts"
        hosts.write_text(HOSTS)
        (bundle / "config.json").write_text(json.dumps(_config(image, network, service, hosts)))
        self.log = bundle / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*self._runtime, "run", "--bundle", str(bundle), self.name],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            [*self._runtime, "delete", "--force", self.name], capture_output=True, check=False
        )
        self.process.wait(30)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the program, as it runs."""
        return subprocess.run(
            [*self._runtime, "exec", self.name, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def terminate(self) -> None:
        """SIGTERM to process 1, if there is one already."""
        subprocess.run(
            [*self._runtime, "kill", self.name, "TERM"], capture_output=True, check=False
        )

    def stop(self, seconds: float) -> int:
        """SIGTERM to process 1: the exit code, or an error if it takes longer."""
        self.terminate()
        return self.process.wait(seconds)


def _config(image: Image, network: Network, service: Service, hosts: Path) -> Mapping[str, object]:
    user, group = service.user or tuple(int(each) for each in image.config["User"].split(":"))
    command = [*image.config["Entrypoint"], *service.arguments]
    files = {"/etc/hosts": hosts, **service.files}
    if service.init:
        command = [INIT, "--", *command]
        files[INIT] = Path(program("tini-static"))
    set_by_image = dict(each.split("=", 1) for each in image.config["Env"])
    no_capabilities = ("bounding", "effective", "permitted", "inheritable", "ambient")
    namespaces = [{"type": kind} for kind in NAMESPACES]
    return {
        "ociVersion": "1.0.2",
        "hostname": service.name,
        "root": {"path": str(image.root), "readonly": True},
        "process": {
            "user": {"uid": user, "gid": group},
            "args": command,
            "env": [f"{key}={value}" for key, value in (set_by_image | service.variables).items()],
            "cwd": image.config["WorkingDir"],
            "capabilities": {kind: [] for kind in no_capabilities},
            "noNewPrivileges": True,
        },
        "mounts": [
            *({"destination": to, "type": kind, "source": kind, "options": options}
              for to, kind, options in MOUNTS),
            *({"destination": to, "type": "bind", "source": str(source), "options": ["bind", "ro"]}
              for to, source in files.items()),
        ],
        "linux": {"namespaces": [*namespaces, {"type": "network", "path": network.path}]},
    }  # fmt: skip
