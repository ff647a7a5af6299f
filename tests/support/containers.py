"""The image of ops/Dockerfile and its containers.

The image is built without a registry: its base is a stand-in of Debian's packages. Containers are run by a
runtime of the OCI as Docker and Kubernetes have them run. The root is read-only, the user has no capability
and gets none, and all that is written goes to /tmp, where nothing can be executed. Limits of memory and CPU
time, users' namespaces, seccomp and the network between containers are not played.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dingrelay_tasks.contract import Json
from support.network import Network
from support.servers import do_without, program

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
"""Debian suite of the Dockerfile's base image."""
PACKAGES = (
    "base-files", "base-passwd", "coreutils", "dash", "libc-bin", "passwd",
    "python3", "python3-venv", "python-is-python3", "ca-certificates", "netbase", "tzdata",
    "libstdc++6",  # its package manager brings it
)  # fmt: skip
"""Packages of that base image: a Debian's minimum, Python, and the packages that python:slim adds."""
STAND_IN = f"localhost/stand-in:{hashlib.sha256(repr((SUITE, PACKAGES)).encode()).hexdigest()[:12]}"
NAME = "localhost/dingrelay"
AUTHORITIES = "/etc/ssl/certs"
"""Certificates of this machine, used while the image is built: its packages may come through a proxy."""
MEMORY = Path("/dev/shm")
ROOM = 4 * 1024**3
"""Bytes that must be free there: the copies of the image's 20,000 files take 1 GB at most, and much longer on a disk."""
OWN_MOUNTS = (
    "unshare", "--mount", "--propagation", "private", "sh", "-ec", """
    cd "$1/over"
    mount -t overlay -o lowerdir=/run,upperdir=run,workdir=work none /run
    mount -t overlay -o lowerdir=/var/lib,upperdir=lib,workdir=more none /var/lib
    cd /
    shift
    exec "$@"
    """, "sh",
)  # fmt: skip
"""Runs a command in a folder: what it writes beside its storage goes there, too, and what it mounts ends with it."""
KEPT = ROOT / ".venv/image"
"""Layers of builds: the next one makes only what has changed since."""
MOST_KEPT = 4_000_000_000
"""Bytes of them, after which all are made again."""
STORAGE = """
    policy=$0/policy.json
    buildah() {
        command buildah --root "$STORAGE" --runroot "$0/run" --storage-driver overlay "$@"
    }
    mounted() {
        buildah from --pull=never --signature-policy "$policy" "$1" | tee "$0/container" | xargs -I{} \
            buildah --root "$STORAGE" --runroot "$0/run" --storage-driver overlay mount {}
    }
    trap 'test ! -s "$0/container" || { buildah rm "$(cat "$0/container")" >&2; rm "$0/container"; }' EXIT
    """
TRUST_ALL = {"default": [{"type": "insecureAcceptAnything"}]}
"""Nothing comes from a registry, so nothing is signed."""


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        root: its files.
        config: what it says of how it is started, as the OCI writes it.
        size: bytes that it adds to its base.
    """

    root: Path
    config: Json
    size: int


def _bytes(folder: Path) -> int:
    """Size of the files below a folder, with hard links counted once."""
    listed = subprocess.run(
        ["du", "--apparent-size", "--block-size=1", "--summarize", folder],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(listed.stdout.split()[0])


def _own_limits() -> list[str]:
    """Options that keep the limits of this process: buildah would raise them, which not every root may."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    return [
        f"--ulimit={name}={':'.join(map(str, resource.getrlimit(number)))}"
        for name, number in limits.items()
    ]


class Builder:
    """Builds in a folder of its own, and leaves nothing but layers for the next one."""

    def __init__(self) -> None:
        program("buildah")
        program("/usr/lib/podman/netavark")
        self._mmdebstrap = program("mmdebstrap")
        if os.geteuid():
            do_without("an image is built and started as root only")
        quick = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
        folder = Path(tempfile.mkdtemp(prefix="dingrelay-image-", dir=MEMORY if quick else None))
        self._folder = folder
        self._policy = folder / "policy.json"
        self._policy.write_text(json.dumps(TRUST_ALL))
        for name in ("run", "tmp", "over", "over/run", "over/lib", "over/work", "over/more"):
            (folder / name).mkdir()
        KEPT.mkdir(parents=True, exist_ok=True)

    def build(self) -> Image:
        """The stand-in, the image, and its files."""
        if _bytes(KEPT) > MOST_KEPT:
            self._run("buildah rmi --all --force >&2")
        base = self._build_base()
        source = ["--build-arg", f"BASE={STAND_IN}", "--pull=never"]
        if index := os.environ.get("PIP_INDEX_URL"):
            source += ["--build-arg", f"PIP_INDEX_URL={index}"]
        self._run(
            'buildah build --signature-policy "$policy" "$@"',
            "--isolation", "chroot", "--format", "oci", "--layers", *source,
            *_own_limits(), "--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro",
            "--file", str(ROOT / "ops/Dockerfile"), "--tag", NAME, str(ROOT),
        )  # fmt: skip
        root = self._folder / "root"
        # What is mounted is gone with the command, so its files are copied.
        self._run(f'cp --archive "$(mounted {NAME})" "$1"', str(root))
        inspected = json.loads(self._run(f"buildah inspect --type image {NAME}"))
        return Image(root, inspected["OCIv1"]["config"], _bytes(root) - base)

    def _build_base(self) -> int:
        """Make it: its bytes."""
        # The packages are unpacked and their scripts not run, which takes a third of the time.
        accounts = [
            f'--customize-hook=cp "$1/usr/share/base-passwd/{name}.master" "$1/etc/{name}"'
            for name in ("passwd", "group")
        ]
        size = self._run(
            f"""
            if ! buildah inspect --type image {STAND_IN} >&2; then
                root=$(mounted scratch)
                "$@" "$root" >&2
                buildah commit --rm --quiet --signature-policy "$policy" "$(cat "$0/container")" {STAND_IN} >&2
            fi
            du --apparent-size --block-size=1 --summarize "$(mounted {STAND_IN})"
            """,
            self._mmdebstrap, "--mode=root", "--variant=extract", *accounts,
            "--include", ",".join(PACKAGES), "--skip=check/empty", SUITE,
        )  # fmt: skip
        return int(size.split()[0])

    def _run(self, script: str, *arguments: str) -> str:
        """Output of a script of sh; if it fails, the test does, with all of its output.

        It has a command `buildah` with this storage, one `mounted` that gives the folder of a new
        container of an image, mounted until the script ends, and `$policy`.
        """
        env = {**os.environ, "TMPDIR": str(self._folder / "tmp"), "STORAGE": str(KEPT)}
        done = subprocess.run(
            [*OWN_MOUNTS, str(self._folder), "sh", "-ec", STORAGE + script, str(self._folder), *arguments],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def close(self) -> None:
        """Leave nothing; of a mount that a killed command had left, nothing is deleted."""
        subprocess.run(["rm", "-rf", "--one-file-system", self._folder], check=True)


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
