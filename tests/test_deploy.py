"""The manifests of `deploy/kubernetes` say what the service needs and has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI

from app.main import create_app
from app.settings import ROOT, Settings

FOLDER = ROOT / "deploy" / "kubernetes"


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
    compose = load(ROOT / "docker-compose.yml")["services"]["xmore"]["environment"]
    assert set(settings_given()) <= known
    assert set(compose) <= known
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
