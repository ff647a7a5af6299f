"""The manifests for Kubernetes, read."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "ops/kubernetes"
SECRETS = "/run/secrets/"


KUSTOMIZATION: Any = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))


def documents(names: Iterable[str]) -> Iterator[Any]:
    for name in names:
        yield from yaml.safe_load_all((FOLDER / name).read_text("utf-8"))


def config_map(generator: Any) -> dict[str, str]:
    """The data of a ConfigMap, as kustomize generates it."""
    data = {name: (FOLDER / name).read_text("utf-8") for name in generator.get("files", ())}
    for name in generator.get("envs", ()):
        lines = (FOLDER / name).read_text("utf-8").splitlines()
        data |= dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return data


def image_of(service: Any) -> str:
    """The image of a service in docker-compose.yml, where the variable for it is not set."""
    return re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"])


ALL = list(documents(KUSTOMIZATION["resources"]))
EXAMPLES: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (FOLDER / "examples").iterdir()
}
DEPLOYMENTS = {each["metadata"]["name"]: each for each in ALL if each["kind"] == "Deployment"}
CONFIGURED = {each["name"]: config_map(each) for each in KUSTOMIZATION["configMapGenerator"]}


def pod(name: str) -> Any:
    return DEPLOYMENTS[name]["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (found,) = pod(name)["containers"]
    return found


def secret(name: str) -> Any:
    (volume,) = (each["secret"] for each in pod(name)["volumes"] if "secret" in each)
    return volume


def variables(name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container(name)["envFrom"]:
        found |= CONFIGURED[source["configMapRef"]["name"]]
    return found | {each["name"]: each["value"] for each in container(name).get("env", ())}
