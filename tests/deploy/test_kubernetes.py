"""The manifests fit Kubernetes' schemas, and name what the service really has."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serve.app import create_app
from serve.guards import OPEN
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.engines.manifest import KEY
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator

VARIANTS = ("base", "gpu")
VERSIONS = ("1.30", "1.33", "1.37")  # preStop.sleep begins with 1.30
KUBECTL = shutil.which("kubectl")
LABELS = {"app.kubernetes.io/name": "sidestep"}
Manifests = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(checkout: Path) -> Path:
    return checkout / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def kustomize(helper: Callable[[str], ModuleType]) -> ModuleType:
    return helper("kustomize")


@pytest.fixture(scope="module", params=VARIANTS)
def manifests(request: pytest.FixtureRequest, folder: Path, kustomize: ModuleType) -> Manifests:
    """A variant's manifests by kind."""
    return {one["kind"]: one for one in kustomize.render(folder / request.param)}


@pytest.fixture(scope="module")
def http(
    make_generator: Callable[[FakeEngine], Generator], listen: Callable[[Any], str]
) -> Iterator[httpx.Client]:
    """A real service that has drawn a picture."""
    app = create_app(make_generator(FakeEngine(tokens=12)), Settings())
    with httpx.Client(base_url=listen(app), timeout=30) as client:
        client.post("/generate", json={"prompt": "a"}).raise_for_status()
        yield client


def pod(manifests: Manifests) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(manifests: Manifests) -> dict[str, Any]:
    (one,) = pod(manifests)["containers"]
    assert isinstance(one, dict)
    return one


def values(manifests: Manifests) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(manifests)["env"] if "value" in one}


@pytest.mark.parametrize("version", VERSIONS)
def test_all_fit_the_schemas(manifests: Manifests, version: str) -> None:
    wanted = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert wanted | {"NetworkPolicy"} <= set(manifests)
    for one in manifests.values():
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_find_what_is_misspelt(manifests: Manifests) -> None:
    wrong = copy.deepcopy(manifests["Deployment"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_renders_the_same(variant: str, folder: Path, kustomize: ModuleType) -> None:
    ours = kustomize.render(folder / variant)
    assert len({kustomize.identity(one) for one in ours}) == len(ours) >= 5
    if KUBECTL:  # which no package index has; without it our own reader is all there is
        command = [KUBECTL, "kustomize", folder / variant]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert in_order(list(yaml.safe_load_all(done.stdout))) == in_order(ours)


def in_order(value: Any) -> Any:
    """Sort all lists, whose order differs between renderers."""
    if isinstance(value, dict):
        return {name: in_order(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted(map(in_order, value), key=lambda one: json.dumps(one, sort_keys=True))
    return value


def test_every_selector_finds_the_pods(manifests: Manifests) -> None:
    spec = manifests["Deployment"]["spec"]
    assert spec["template"]["metadata"]["labels"] == LABELS
    assert spec["selector"]["matchLabels"] == LABELS
    assert manifests["Service"]["spec"]["selector"] == LABELS
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABELS
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABELS
    scaled = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", "sidestep")
    assert "replicas" not in spec, "it would undo the autoscaler at every apply"


def test_ports_are_the_services(manifests: Manifests) -> None:
    (port,) = container(manifests)["ports"]
    assert values(manifests)["SIDESTEP_PORT"] == str(port["containerPort"])
    assert port["containerPort"] == Settings().port
    assert [one["targetPort"] for one in manifests["Service"]["spec"]["ports"]] == [port["name"]]
    ((rule,),) = (one["ports"] for one in manifests["NetworkPolicy"]["spec"]["ingress"])
    assert rule["port"] == port["name"]
    told = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert told["prometheus.io/port"] == str(port["containerPort"])


def test_variables_are_settings(manifests: Manifests) -> None:
    names = {one["name"] for one in container(manifests)["env"]}
    ours = {name for name in names if name.startswith("SIDESTEP_")} - {KEY}
    assert ours <= set(Settings(model=("m",), access_log="-").to_environment())
    Settings.from_environment(values(manifests))


def test_no_link_of_a_service_is_taken_for_a_setting(manifests: Manifests) -> None:
    with pytest.raises(InvalidRequest):
        Settings.from_environment({"SIDESTEP_PORT": "tcp://10.0.0.1:80"})
    assert pod(manifests)["enableServiceLinks"] is False


def test_probes_ask_routes_that_need_no_key(manifests: Manifests, http: httpx.Client) -> None:
    one = container(manifests)
    paths = {name: one[name]["httpGet"]["path"] for name in one if name.endswith("Probe")}
    assert paths == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert set(paths.values()) == set(OPEN)
    for path in paths.values():
        assert http.get(path).status_code == 200


def test_there_is_time_to_finish(manifests: Manifests) -> None:
    settings = Settings.from_environment(values(manifests))
    sleep = container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep + settings.grace_s < pod(manifests)["terminationGracePeriodSeconds"]
    assert settings.deadline_ms / 1e3 < settings.grace_s


def test_the_pod_can_do_little(manifests: Manifests, containerfile: ModuleType) -> None:
    user = pod(manifests)["securityContext"]
    assert user["runAsNonRoot"]
    stage = containerfile.read(Path(__file__).parents[2] / "deploy" / "Containerfile")["service"]
    assert stage.last("USER").text == f"{user['runAsUser']}:{user['runAsGroup']}"
    limits = container(manifests)["securityContext"]
    assert limits["readOnlyRootFilesystem"]
    assert limits["capabilities"] == {"drop": ["ALL"]}
    assert limits["allowPrivilegeEscalation"] is False
    mounts = {one["mountPath"]: one["name"] for one in container(manifests)["volumeMounts"]}
    assert mounts["/tmp"] == "tmp"
    assert set(mounts.values()) == {one["name"] for one in pod(manifests)["volumes"]}


def test_the_gpu_variant_has_a_gpu_and_its_models(folder: Path, kustomize: ModuleType) -> None:
    found = {one["kind"]: one for one in kustomize.render(folder / "gpu")}
    assert container(found)["image"] == "sidestep:cuda"
    assert container(found)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod(found)["tolerations"][0]["key"] == "nvidia.com/gpu"
    (models,) = [one for one in container(found)["volumeMounts"] if one["name"] == "models"]
    assert models["readOnly"]
    assert values(found)["SIDESTEP_MODEL"].startswith(models["mountPath"] + "/")
    (claim,) = [one for one in pod(found)["volumes"] if one["name"] == "models"]
    name = claim["persistentVolumeClaim"]["claimName"]
    assert found["PersistentVolumeClaim"]["metadata"]["name"] == name


def test_the_autoscaler_reads_our_metrics(
    manifests: Manifests, folder: Path, http: httpx.Client
) -> None:
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    text = (folder / "prometheus-adapter.yaml").read_text("utf-8")
    (rule,) = yaml.safe_load(text)["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    path = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    answer = http.get(path["prometheus.io/path"])
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    histogram = families["sidestep_queue_seconds"]
    assert histogram.type == "histogram"
    samples = {sample.name: sample.value for sample in histogram.samples}
    asked = set(re.findall(r"sidestep_\w+", rule["seriesQuery"] + rule["metricsQuery"]))
    assert asked == {"sidestep_queue_seconds_sum", "sidestep_queue_seconds_count"}
    assert samples["sidestep_queue_seconds_count"] == 1
    assert 0 <= samples["sidestep_queue_seconds_sum"] < 1, "seconds, not milliseconds"
