"""The manifests: valid for Kubernetes, and of the same system as docker-compose.yml."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from dingrelay_producers import Settings, metrics_server
from dingrelay_producers.settings import SettingsError
from dingrelay_workers import preflight
from dingrelay_workers.backlog.estimate import STATES
from dingrelay_workers.http.connection import PORT
from dingrelay_workers.http.job_routes import WaitQuery
from dingrelay_workers.metrics import BACKLOG
from support.manifests import (
    ALL,
    CONFIGURED,
    DEPLOYMENTS,
    EXAMPLES,
    KUSTOMIZATION,
    SECRETS,
    container,
    image_of,
    pod,
    secret,
    variables,
)

ROOT = Path(__file__).parents[2]
GUIDE = ("docs/guide/operating.md", "docs/guide/zh-CN/operating.md")
VERSIONS = ("1.32", "1.37")
"""`preStop.sleep` came before the first of them."""


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(version: str) -> None:
    for each in (*ALL, EXAMPLES["ingress"]):
        kubernetes_validate.validate(each, version, strict=True)


def test_they_are_the_services_of_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    images = {
        name: service
        for name, service in compose.items()
        if image_of(service).startswith("dingrelay:")
    }
    own = {name: each for name, each in images.items() if "entrypoint" not in each}
    assert set(DEPLOYMENTS) == {f"dingrelay-{name}" for name in own}
    for name, service in own.items():
        here = container(f"dingrelay-{name}")
        assert (here["image"], here["args"]) == (image_of(service), service["command"])
        # Secrets are in no config map: the callback's are shown in comments.
        shown = {"DINGTALK_CALLBACK_TOKEN", "DINGTALK_CALLBACK_AES_KEY"}
        assert variables(f"dingrelay-{name}").keys() >= set(service["environment"]) - shown


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_its_variables_make_a_production_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {item["path"] for item in secret(name)["items"]}
    named = {value for value in variables(name).values() if value.startswith(SECRETS)}
    assert {value.removeprefix(SECRETS) for value in named} == files
    values = {"redis_url": "redis://valkey/0", "database_url": "postgresql://dingrelay@postgres/x"}
    for variable, value in variables(name).items():
        if variable == "DINGRELAY_CONFIG":
            file = tmp_path / "dingrelay.toml"
            file.write_text(CONFIGURED["dingrelay-file"][file.name], "utf-8")
            value = str(file)  # noqa: PLW2901 - where the file is here
        elif value in named:
            file = tmp_path / value.removeprefix(SECRETS)
            file.write_text(values.get(file.name, "w" * 32), "utf-8")
            value = str(file)  # noqa: PLW2901 - where the file is here
        monkeypatch.setenv(variable, value)
    if "DINGTALK_AGENT_ID" in variables(name):
        with pytest.raises(SettingsError, match="DINGTALK_AGENT_ID: is empty"):
            preflight.check_apps(Settings.load())
        monkeypatch.setenv("DINGTALK_AGENT_ID", "4242")
        preflight.check_apps(Settings.load())
    settings = Settings.load()
    assert settings.env == "production"
    assert settings.redis == values["redis_url"]
    assert bool(settings.sync.every) == ("flower" not in name)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_it_has_the_time_that_it_needs_to_stop(name: str) -> None:
    args = container(name)["args"]
    needed = Settings(env="test").soft_shutdown + 5 if args[0] == "worker" else 10
    assert pod(name)["terminationGracePeriodSeconds"] > needed


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_its_probes_ask_a_port_that_it_has(name: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(name)["ports"]}
    probes = {key: value for key, value in container(name).items() if key.endswith("Probe")}
    assert probes.keys() >= {"startupProbe", "livenessProbe"}
    if "flower" not in name:
        # What ends a pod asks the process alone; what sends it requests, or goes on with an update, asks its servers.
        paths = {key: probe["httpGet"]["path"] for key, probe in probes.items()}
        alive = dict.fromkeys(("startupProbe", "livenessProbe"), "/healthz")
        assert paths == {**alive, "readinessProbe": "/readyz"}
    for probe in probes.values():
        (port,) = (probe[kind]["port"] for kind in ("httpGet", "tcpSocket") if kind in probe)
        assert port in ports
    if "metrics" in ports:
        assert int(variables(name)["DINGRELAY_METRICS_PORT"]) == ports["metrics"]
        assert probes["livenessProbe"]["timeoutSeconds"] > metrics_server.LOOP_SECONDS
    if "http" in ports and container(name)["args"][0] == "gateway":
        assert ports["http"] == PORT


def test_services_and_budgets_are_of_pods_that_are_there() -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in DEPLOYMENTS.values()]
    for each in ALL:
        match each["kind"]:
            case "Service":
                selector = each["spec"]["selector"]
            case "PodDisruptionBudget" | "Deployment":
                selector = each["spec"]["selector"]["matchLabels"]
            case _:
                continue
        assert selector in labels, each["metadata"]["name"]


def test_more_than_one_pod_has_a_disruption_budget() -> None:
    budgets = {each["metadata"]["name"] for each in ALL if each["kind"] == "PodDisruptionBudget"}
    assert budgets == {name for name, each in DEPLOYMENTS.items() if each["spec"]["replicas"] > 1}


@pytest.mark.parametrize("page", GUIDE)
def test_the_guide_makes_every_secret(page: str) -> None:
    used = {item["key"] for name in DEPLOYMENTS for item in secret(name)["items"]}
    command = (ROOT / page).read_text("utf-8").split("kubectl create secret", 1)[1].split("```")[0]
    assert set(re.findall(r"--from-file=(\w+)=", command)) == used


def test_generated_config_maps_and_the_image_are_those_of_the_pods() -> None:
    """Names without the suffix that kustomize replaces."""
    maps = {
        each["configMapRef"]["name"] for name in DEPLOYMENTS for each in container(name)["envFrom"]
    }
    volumes = (volume for name in DEPLOYMENTS for volume in pod(name)["volumes"])
    maps |= {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert maps == CONFIGURED.keys()
    (image,) = KUSTOMIZATION["images"]
    tagged = f"{image['name']}:{image['newTag']}"
    assert {container(name)["image"] for name in DEPLOYMENTS} == {tagged}
    assert image["newName"]


def test_pods_have_an_account_without_rights() -> None:
    (account,) = (each for each in ALL if each["kind"] == "ServiceAccount")
    (namespace,) = (each for each in ALL if each["kind"] == "Namespace")
    assert not account["automountServiceAccountToken"]
    assert {pod(name)["serviceAccountName"] for name in DEPLOYMENTS} == {
        account["metadata"]["name"]
    }
    places = {each["metadata"]["namespace"] for each in (account, *EXAMPLES.values())}
    assert places == {namespace["metadata"]["name"]} == {KUSTOMIZATION["namespace"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_network_policies_let_through_what_a_pod_needs(name: str) -> None:
    labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"].items()
    policies = [each["spec"] for each in ALL if each["kind"] == "NetworkPolicy"]
    own = [each for each in policies if each["podSelector"]["matchLabels"].items() <= labels]
    assert {kind for each in own for kind in each["policyTypes"]} == {"Ingress", "Egress"}
    let_in = {
        port["port"] for each in own for rule in each.get("ingress", ()) for port in rule["ports"]
    }
    # Flower is reached by port-forward.
    refused = {each["name"] for each in container(name)["ports"]} - let_in
    assert refused == ({"http"} if "flower" in name else set())
    out = [rule for each in own for rule in each.get("egress", ())]
    assert ({} in out) == ("webhooks" in name)
    assert {port["port"] for rule in out for port in rule.get("ports", ())} >= {53, 443, 5432, 6379}


def test_the_ingress_leads_to_the_gateway_over_tls() -> None:
    ingress = EXAMPLES["ingress"]
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    (path,) = rule["http"]["paths"]
    named = path["backend"]["service"]
    services = {each["metadata"]["name"]: each for each in ALL if each["kind"] == "Service"}
    ports = {each["name"] for each in services[named["name"]]["spec"]["ports"]}
    assert named["port"]["name"] in ports
    timeout = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"]
    with pytest.raises(ValidationError):
        WaitQuery(wait=int(timeout))


def test_the_scaled_object_asks_for_a_metric_of_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaled = EXAMPLES["keda"]["spec"]
    args = container(scaled["scaleTargetRef"]["name"])["args"]
    (trigger,) = scaled["triggers"]
    query = re.fullmatch(
        r"sum\(max by \(app, lane\) \((\w+)\{lane=\"(\w+)\",state=\"(\w+)\"\}\)\)",
        trigger["metadata"]["query"],
    )
    assert query
    metric, lane, state = query.groups()
    series = {metric.removeprefix("dingrelay_"): [(("default", lane, state), 1)]}
    monkeypatch.setattr(BACKLOG, "series", series)
    ((sample,),) = (family.samples for family in BACKLOG.collect() if family.samples)
    assert sample.labels == {"app": "default", "lane": lane, "state": state}
    assert state in STATES
    assert lane in args[args.index("--lanes") + 1].split(",")
    # What the table reckons.
    concurrency = int(args[args.index("--concurrency") + 1])
    seconds, wait, apps, calls = 1.6, 10, 6, 20
    assert int(trigger["metadata"]["threshold"]) == concurrency / seconds * wait
    assert scaled["maxReplicaCount"] == apps * calls * seconds / concurrency
    pods = f"{apps} × {calls} × 1.6 ÷ {concurrency}"
    for page in GUIDE:
        text = (ROOT / page).read_text("utf-8")
        for reckoned in (f"{concurrency} ÷ 1.6", "20 × 10", pods):
            assert reckoned in text
