"""The manifests of infra/kubernetes: valid for Kubernetes, and in agreement with each other."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from core.settings import Settings
from serving.endpoint.__main__ import _parser
from serving.observing.figures import Figures, Source
from serving.observing.metrics import Metrics

FOLDER = Path(__file__).parents[1] / "infra/kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
pytestmark = pytest.mark.ci
OLDEST, NEWEST = "1.30", "1.37"
"""Of Kubernetes: what is valid for both is valid for those between."""


def manifest(kind: str) -> dict[str, Any]:
    read = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


def pod() -> dict[str, Any]:
    spec = manifest("deployment")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    assert isinstance(only, dict)
    return only


def variables() -> dict[str, str]:
    """Those of the endpoint; empty where the cluster gives the value."""
    return {each["name"]: each.get("value", "") for each in container()["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_manifest_is_valid_and_has_no_unknown_field(
    file: Path, version: str
) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    kubernetes_validate.validate(document, version, strict=True)
    assert document["kind"].lower() == file.stem


def test_a_field_that_is_misspelt_is_found() -> None:
    document = manifest("deployment")
    document["spec"]["replica"] = document["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, NEWEST, strict=True)


def test_all_of_them_are_about_the_pods_of_the_deployment() -> None:
    deployment = manifest("deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        manifest("service")["spec"]["selector"],
        manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"],
        manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4
    scaled = manifest("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] == deployment["metadata"]["name"]
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod()["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == [manifest("persistentvolumeclaim")["metadata"]["name"]]


def test_ports_are_those_that_the_endpoint_listens_on() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    options = _parser().parse_args(container()["args"])
    assert (options.host, options.port) == ("0.0.0.0", ports["http"])  # noqa: S104
    assert variables()["ASSAY_METRICS_ADDRESS"] == f"0.0.0.0:{ports['metrics']}"
    (served,) = manifest("service")["spec"]["ports"]
    assert served["targetPort"] == "http"
    rules = manifest("networkpolicy")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports)


def test_the_endpoint_gets_settings_that_exist_and_its_pod_s_name() -> None:
    names = variables().keys()
    fields = {f"ASSAY_{field.upper()}" for field in Settings.model_fields}
    assert "ASSAY_REPLICA" in names
    assert names <= fields


def test_it_is_scaled_by_a_metric_that_the_endpoint_has() -> None:
    (scaled_by,) = manifest("horizontalpodautoscaler")["spec"]["metrics"]
    metrics = Metrics(Source(Figures, lambda _: False))
    name = scaled_by["pods"]["metric"]["name"]
    assert f"\n{name} ".encode() in metrics.expose()


def test_the_home_that_a_pod_begins_with_leads_to_what_is_shared(
    tmp_path: Path,
) -> None:
    (first,) = pod()["initContainers"]
    home, models = tmp_path / "volume/home", tmp_path / "models"
    environment = {
        "PATH": "/usr/bin:/bin",
        "ASSAY_HOME": str(home),
        "MODELS": str(models),
    }
    given = {each["name"]: each["value"] for each in first["env"]}
    assert given.keys() == {"ASSAY_HOME", "MODELS"}
    # As after a restart of the pod's containers: its home is there already.
    for _ in range(2):
        command = [*first["command"], *first["args"]]
        subprocess.run(command, env=environment, check=True, timeout=60)
    links = {path.name: path.readlink() for path in home.iterdir()}
    assert links == {
        name: models / name for name in ("packages", "base-models", "api_keys.json")
    }
    mounted = [mount["mountPath"] for mount in container()["volumeMounts"]]
    assert given["MODELS"] in mounted
    assert str(Path(given["ASSAY_HOME"]).parent) in mounted


def test_the_containers_may_do_no_more_than_they_need() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["automountServiceAccountToken"] is False
    for each in (*pod()["initContainers"], *pod()["containers"]):
        allowed = each["securityContext"]
        assert allowed["capabilities"]["drop"] == ["ALL"]
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["allowPrivilegeEscalation"] is False
