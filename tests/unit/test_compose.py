"""The production shape: every command, variable, secret and metric that it names exists."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client import REGISTRY
from typer.testing import CliRunner

import image_tags
from dingrelay_producers import Settings, cli
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.stream.listener import StreamMetrics
from dingrelay_producers.tracing.export import ENDPOINTS, wanted
from dingrelay_tasks.contract import Json
from dingrelay_workers import metrics
from dingrelay_workers.commands import LANES
from dingrelay_workers.http.connection import PORT
from dingrelay_workers.http.metrics import GatewayMetrics
from support import manifests
from support.servers import program

ROOT = Path(__file__).parents[2]
WORKERS = ("worker-urgent-normal", "worker-events", "worker-bulk-directory", "worker-webhooks")
OURS = (*WORKERS, "events", "gateway", "console", "flower")
SECRETS = "/run/secrets/"
FOREIGN_VARIABLES = {
    "prometheus": set(
        re.findall(r"\$\{(\w+)\}", (ROOT / "ops/prometheus/prometheus.yml").read_text("utf-8"))
    ),
    "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"},
    "grafana": {
        "GF_SECURITY_ADMIN_USER",
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
    },
}
PINNED = re.compile(r"[a-z0-9/._-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.-]+)?")
METRIC = re.compile(r"\bdingrelay_[a-z_]+")
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.fixture(scope="module")
def compose() -> Json:
    content: Json = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return content


def test_it_has_the_parts_of_production(compose: Json) -> None:
    assert set(compose["services"]) == {
        "valkey", "postgres", *OURS, "prometheus", "alertmanager", "alert-robot", "dashboards",
        "grafana", "backup", "backup-valkey",
    }  # fmt: skip


def test_every_service_has_limits_and_says_whether_it_is_well(compose: Json) -> None:
    for name, service in compose["services"].items():
        assert service["mem_limit"], name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        # These end.
        assert ("healthcheck" in service) != (name in {"dashboards", "backup", "backup-valkey"}), (
            name
        )
        if name in OURS and name != "flower":
            # What ends or replaces containers by it must not do so while Redis is away.
            assert "/healthz" in service["healthcheck"]["test"][-1], name


@pytest.mark.parametrize("service", OURS)
def test_every_command_of_ours_exists(compose: Json, service: str) -> None:
    command = compose["services"][service]["command"]
    # An option that does not exist fails before the help is shown.
    answer = CliRunner().invoke(cli.app, [*command, "--help"])
    assert answer.exit_code == 0, answer.output
    assert command[0] in answer.output


@pytest.mark.parametrize("service", WORKERS)
def test_a_worker_has_the_time_that_it_needs_to_stop(compose: Json, service: str) -> None:
    given = compose["services"][service]["stop_grace_period"]
    assert float(given.removesuffix("s")) > Settings(env="test").soft_shutdown + 5


def test_every_lane_has_a_worker(compose: Json) -> None:
    served: list[str] = []
    for name in WORKERS:
        command = compose["services"][name]["command"]
        served += command[command.index("--lanes") + 1].split(",")
    assert sorted(served) == sorted(LANES)


@pytest.mark.parametrize("service", OURS)
def test_its_variables_make_a_production_configuration(
    compose: Json, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "redis_url": "redis://:a@valkey:6379/0",
        "database_url": "postgresql://dingrelay:b@postgres/dingrelay",
        "app_key": "key",
        "app_secret": "secret",
        "flower": "password",
        "webhook_key": "w" * 32,
    }
    variables: dict[str, str] = compose["services"][service]["environment"]
    for variable, value in variables.items():
        if value.startswith(SECRETS):
            name = value.removeprefix(SECRETS)
            (tmp_path / name).write_text(values[name] + "\n", "utf-8")
            monkeypatch.setenv(variable, str(tmp_path / name))
        else:
            # As compose does with an `.env` that has the agent id only.
            filled = value.replace("${DINGTALK_AGENT_ID:?the agent id of the app}", "4242")
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", filled))
    if "DINGRELAY_CONFIG" in variables:
        (mounted,) = compose["services"][service]["configs"]
        assert mounted["target"] == variables["DINGRELAY_CONFIG"]
        source = compose["configs"][mounted["source"]]["file"]
        monkeypatch.setenv("DINGRELAY_CONFIG", str(ROOT / source))
    settings = Settings.load()
    assert settings.env == "production"
    assert settings.redis == values["redis_url"]
    if service == "flower":
        assert settings.flower_password.get_secret_value() == values["flower"]
    else:
        assert settings.database == values["database_url"]
        app = CurrentApps(settings).app("default")
        assert (app.agent_id, app.app_secret.get_secret_value()) == ("4242", values["app_secret"])
        assert settings.sync.every
        assert settings.metrics_port == (0 if service == "console" else 9464)


def test_every_variable_of_ours_is_a_setting(compose: Json) -> None:
    fields = {"DINGRELAY_CONFIG", *(f"DINGRELAY_{name.upper()}" for name in Settings.model_fields)}
    parts = ("APP_KEY", "APP_SECRET", "AGENT_ID", "CALLBACK_TOKEN", "CALLBACK_AES_KEY")
    apps = {f"DINGTALK_{part}" for part in parts}
    proxies = {"HTTPS_PROXY", "NO_PROXY"}
    for name in OURS:
        for variable in compose["services"][name]["environment"]:
            assert variable.removesuffix("_FILE") in {*fields, *apps, *proxies, *ENDPOINTS}, (
                variable
            )


def test_traces_need_an_endpoint(compose: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*OURS} - {"flower"}:
        given = compose["services"][name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert given == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    assert not wanted()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert wanted()
    # Both files count on it.
    assert ",otel," in (ROOT / "ops/Dockerfile").read_text("utf-8")


def test_other_images_get_variables_that_they_know(compose: Json) -> None:
    for name, service in compose["services"].items():
        if name not in OURS:
            assert set(service.get("environment", ())) == FOREIGN_VARIABLES.get(name, set())


def test_no_secret_is_in_the_file(compose: Json) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD|_KEY|REDIS_URL|DATABASE_URL", variable):
                from_env_file = value == f"${{{variable}:-}}"
                assert from_env_file or value.startswith(SECRETS), f"{name}: {variable}"


def test_each_secret_is_declared_and_given_to_who_reads_it(compose: Json) -> None:
    for name, service in compose["services"].items():
        given = set(service.get("secrets", ()))
        assert given <= set(compose["secrets"])
        text = json.dumps([service.get(key) for key in ("environment", "command", "healthcheck")])
        assert set(re.findall(SECRETS + r"([a-z_.]+)", text)) == given, name


def test_images_are_pinned(compose: Json) -> None:
    images = [manifests.image_of(service) for service in compose["services"].values()]
    for image in (*images, *(tag.image for tag in image_tags.tags())):
        assert PINNED.fullmatch(image), image
    stages = re.findall(r"^FROM (\S+)", (ROOT / "ops/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert set(stages) == {"${BASE}", "scratch"}


def test_docker_compose_takes_the_file_and_would_refuse_another(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for content, taken in ((text, True), (text.replace("healthcheck:", "healthchek:"), False)):
        file = tmp_path / "docker-compose.yml"
        file.write_text(content, "utf-8")
        done = subprocess.run(
            [program("docker-compose"), "--file", str(file), "config", "--quiet"],
            env={**os.environ, "DINGTALK_AGENT_ID": "4242"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode == 0) == taken, done.stderr


def test_the_image_is_built_from_what_the_wheel_holds() -> None:
    dockerfile = (ROOT / "ops/Dockerfile").read_text("utf-8")
    copied = set(re.findall(r"^COPY ((?!--)\S+) \S+$", dockerfile, re.MULTILINE))
    packages = (ROOT / "pyproject.toml").read_text("utf-8").split("packages = [")[1].split("]")[0]
    for package in re.findall(r'"(\S+)/dingrelay_\w+"', packages):
        assert package in copied, package


def known_metrics() -> set[str]:
    assert metrics.JOBS is not None
    known = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    for registry in (REGISTRY, StreamMetrics().registry, GatewayMetrics().registry):
        known |= {name for family in registry.collect() for name in _sample_names(family)}
    return known


def test_every_metric_on_the_dashboards_and_in_the_alerts_exists() -> None:
    known = known_metrics()
    for path in (ROOT / "ops/prometheus/alerts.yml", ROOT / "ops/grafana/dashboards.toml"):
        named = set(METRIC.findall(path.read_text("utf-8")))
        assert named, path
        assert named <= known, path


@pytest.mark.parametrize("page", ["docs/guide/operating.md", "docs/guide/zh-CN/operating.md"])
def test_every_metric_in_the_guide_exists(page: str) -> None:
    # It names a histogram as a whole; a package is no metric.
    known = {name.removesuffix("_count") for name in known_metrics()} | known_metrics()
    named = set(METRIC.findall((ROOT / page).read_text("utf-8"))) - {
        "dingrelay_workers",
        "dingrelay_valkey",
        "dingrelay_postgres",
    }
    assert "dingrelay_call_seconds" in named
    assert named <= known


def _sample_names(family: Any) -> Iterator[str]:
    """Names of samples of a metric that has no labelled child yet."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    for suffix in suffixes.get(family.type, ("",)):
        yield family.name + suffix


def test_alerts_have_a_receiver(compose: Json) -> None:
    folder = ROOT / "ops/prometheus"
    prometheus = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))
    (target,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"]
    alertmanager = yaml.safe_load((folder / "alertmanager.yml").read_text("utf-8"))
    (receiver,) = alertmanager["receivers"]
    assert receiver["name"] == alertmanager["route"]["receiver"]
    robot = urlsplit(receiver["webhook_configs"][0]["url"])
    assert robot.hostname in compose["services"]
    head = (ROOT / "docker-compose.yml").read_text("utf-8").split("\nname:")[0]
    assert f"{robot.path.split('/')[2]}:" in head, "the target that its head makes"


def test_alerts_are_raised_when_they_should_be() -> None:
    promtool = program("promtool")
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "config", "--syntax-only", "kubernetes.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml", "day.test.yml"],
    ):
        done = subprocess.run(
            [promtool, *command],
            cwd=ROOT / "ops/prometheus",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_be_raised_and_not_to_be() -> None:
    folder = ROOT / "ops/prometheus"
    tested: dict[bool, set[str]] = {True: set(), False: set()}
    for file in folder.glob("*.test.yml"):
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                tested[bool(case["exp_alerts"])].add(case["alertname"])
    assert (tested[True], tested[False]) == (ALERTS.keys(), ALERTS.keys())


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_its_text_in_both_languages(alert: str) -> None:
    text = ALERTS[alert]["annotations"]["summary"]
    match = re.fullmatch(
        r'{{ if eq \$externalLabels.language "zh" }}(.*) {{- else }}(.*){{ end }}', text
    )
    assert match
    chinese, english = match.groups()
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert english.isascii()
    values = [sorted(re.findall(r"\$\w+[.\w]*", each)) for each in match.groups()]
    assert values[0] == values[1]


def test_the_rule_for_prometheus_s_operator_is_made_of_the_alerts(tmp_path: Path) -> None:
    for name in (
        "Makefile",
        "ops/prometheus/alerts.yml",
        (rule := "ops/kubernetes/examples/prometheusrule.yaml"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["make", "alerts"], cwd=tmp_path, check=True)
    assert (tmp_path / rule).read_text("utf-8") == (ROOT / rule).read_text("utf-8")
    assert manifests.EXAMPLES["prometheusrule"]["spec"] == yaml.safe_load(
        (ROOT / "ops/prometheus/alerts.yml").read_text("utf-8")
    )


def test_every_alert_has_its_runbook() -> None:
    for alert, rule in ALERTS.items():
        base, name = rule["annotations"]["runbook_url"].rsplit("/", 1)
        assert base == "{{ $externalLabels.runbooks }}"
        runbook = ROOT / "ops/runbooks" / name
        for page in (runbook, runbook.parent / "zh-CN" / runbook.name):
            assert f"`{alert}`" in page.read_text("utf-8"), (alert, page)


@pytest.mark.parametrize("page", ["docs/guide/operating.md", "docs/guide/zh-CN/operating.md"])
def test_the_guide_leads_from_each_alert_to_its_runbook(page: str) -> None:
    linked: dict[str, str] = {}
    for names, runbook in re.findall(
        r"^\| (`[A-Z].*`) \| \[.*\]\(.*runbooks/(.*)\) \|$",
        (ROOT / page).read_text("utf-8"),
        re.MULTILINE,
    ):
        linked |= dict.fromkeys(re.findall(r"`(\w+)`", names), runbook.removeprefix("zh-CN/"))
    runbooks = {
        name: Path(rule["annotations"]["runbook_url"]).name for name, rule in ALERTS.items()
    }
    assert linked == runbooks


def test_prometheus_finds_the_workers_and_the_gateways(compose: Json) -> None:
    content = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text("utf-8"))
    (found,) = content["scrape_configs"][0]["dns_sd_configs"]
    assert set(found["names"]) == {*WORKERS, "events", "gateway"}
    for name in found["names"]:
        port = compose["services"][name]["environment"]["DINGRELAY_METRICS_PORT"]
        assert int(port) == found["port"]
    # Strangers reach the API.
    (published,) = compose["services"]["gateway"]["ports"]
    assert published.endswith(f":{PORT}")


def test_prometheus_finds_the_pods() -> None:
    content = yaml.safe_load((ROOT / "ops/prometheus/kubernetes.yml").read_text("utf-8"))
    (job,) = content["scrape_configs"]
    # Alerts ask for this one.
    assert job["job_name"] == "dingrelay"
    kept = [each for each in job["relabel_configs"] if each.get("action") == "keep"]
    regexes = {tuple(each["source_labels"]): each["regex"] for each in kept}
    monitor = manifests.EXAMPLES["podmonitor"]["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    pods = [
        each
        for name, each in manifests.DEPLOYMENTS.items()
        if not {"flower", "console"} & set(name.split("-"))
    ]
    label, port = (
        "__meta_kubernetes_pod_label_app_kubernetes_io_name",
        "__meta_kubernetes_pod_container_port_name",
    )
    assert regexes.keys() == {(label,), (port,)}
    for each in pods:
        template = each["spec"]["template"]
        labels = template["metadata"]["labels"]
        (container,) = template["spec"]["containers"]
        assert re.fullmatch(regexes[label,], labels["app.kubernetes.io/name"])
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert labels[monitor["jobLabel"]] == job["job_name"]
        (found,) = (
            each for each in container["ports"] if re.fullmatch(regexes[port,], each["name"])
        )
        assert found["containerPort"] == 9464
        assert found["name"] == endpoint["port"]
