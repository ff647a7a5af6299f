"""The manifests for Kubernetes, read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "ops/kubernetes"
SECRETS = "/run/secrets/"


def documents() -> Iterator[Any]:
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text("utf-8"))


ALL = list(documents())
DEPLOYMENTS = {each["metadata"]["name"]: each for each in ALL if each["kind"] == "Deployment"}
CONFIGURED = {each["metadata"]["name"]: each["data"] for each in ALL if each["kind"] == "ConfigMap"}


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
