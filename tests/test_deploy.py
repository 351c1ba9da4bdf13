"""The manifests of `deploy/` and the compose files say what the service needs and has."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI

from app.api.admission import Gate
from app.main import create_app
from app.metrics import Metrics
from app.settings import ROOT, Settings

FOLDER = ROOT / "deploy" / "kubernetes"
SHARED = ROOT / "deploy" / "kubernetes-shared-collection"
PROXY = ROOT / "deploy" / "compose" / "nginx.conf"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def settings_given() -> dict[str, str]:
    lines = (FOLDER / "settings.env").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if not line.startswith("#")]
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def pod() -> Any:
    return load(FOLDER / "deployment.yaml")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in settings_given().items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_every_manifest_is_a_resource_of_the_kustomization() -> None:
    manifests = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(load(FOLDER / "kustomization.yaml")["resources"]) == manifests


def test_every_setting_of_the_files_exists(settings: Settings) -> None:
    known = {f"XMORE_{name.upper()}" for name in Settings.model_fields}
    assert set(settings_given()) <= known
    for name in ("docker-compose.yml", "docker-compose.replicas.yml"):
        assert set(load(ROOT / name)["services"]["xmore"]["environment"]) <= known
    assert settings.threads > 0


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_routes_that_there_are(container: Any, probe: str) -> None:
    app: FastAPI = create_app(Settings(_env_file=None))
    asked = container[probe]["httpGet"]
    assert asked["path"] in app.openapi()["paths"]
    (port,) = container["ports"]
    assert asked["port"] == port["name"]


def test_a_pod_has_the_time_to_drain(pod: Any, container: Any, settings: Settings) -> None:
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + settings.drain_timeout_s + 5


def test_it_computes_on_the_cores_that_it_asks_for(container: Any, settings: Settings) -> None:
    assert settings.threads == int(container["resources"]["requests"]["cpu"])


def test_nothing_but_its_volumes_can_be_written_and_by_no_root(pod: Any, container: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/tmp", "/home/xmore/.cache"}  # noqa: S108 - the container's


def test_the_addresses_of_services_do_not_end_up_in_settings(pod: Any) -> None:
    assert pod["enableServiceLinks"] is False


def test_pods_are_counted_by_a_metric_that_the_service_has() -> None:
    metrics = Metrics()
    metrics.watch_queue(Gate(1, 1))
    known = {metric.name for metric in metrics.registry.collect()}
    by_pods = [
        metric["pods"]["metric"]["name"]
        for metric in load(FOLDER / "horizontalpodautoscaler.yaml")["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert by_pods
    assert set(by_pods) <= known


def test_the_shared_collection_is_where_the_service_looks_and_cannot_be_written() -> None:
    kustomization = load(SHARED / "kustomization.yaml")
    assert (SHARED / kustomization["resources"][0]).resolve() == FOLDER
    claim = load(SHARED / kustomization["resources"][1])
    patch = load(SHARED / kustomization["patches"][0]["path"])
    assert claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    deployment = load(FOLDER / "deployment.yaml")
    assert (patch["kind"], patch["metadata"]) == (deployment["kind"], deployment["metadata"])
    pod = patch["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    (generated,) = kustomization["configMapGenerator"]
    assert generated["literals"] == [f"XMORE_INDEX={mount['mountPath']}"]


def test_replicas_are_the_service_of_the_plain_compose_file() -> None:
    plain = load(ROOT / "docker-compose.yml")["services"]["xmore"]
    replica = load(ROOT / "docker-compose.replicas.yml")["services"]["xmore"]
    del plain["ports"], replica["deploy"], replica["environment"]["XMORE_THREADS"]
    assert replica == plain


def test_the_proxy_lets_through_what_the_service_takes() -> None:
    services = load(ROOT / "docker-compose.replicas.yml")["services"]
    settings = Settings(_env_file=None)
    config = PROXY.read_text(encoding="utf-8")

    def number(directive: str, unit: str) -> int:
        found = re.search(rf"\b{directive} (\d+){unit};", config)
        assert found, directive
        return int(found[1])

    body = settings.max_images * settings.max_image_bytes
    assert number("client_max_body_size", "m") * 2**20 >= body + 4 * 2**20
    answered = settings.body_timeout_s + settings.request_timeout_s
    assert number("proxy_read_timeout", "s") > answered
    assert number("keepalive_timeout", "s") < 75
    assert f"server xmore:{settings.port} " in config
    port = str(number("listen", ""))
    assert services["proxy"]["ports"][0].endswith(f":{port}")
    assert f"127.0.0.1:{port}/readyz" in services["proxy"]["healthcheck"]["test"][-1]
