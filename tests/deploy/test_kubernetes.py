"""deploy/kubernetes against the schemas that Kubernetes publishes, and against Headgate itself."""

from __future__ import annotations

import json
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from headgate.settings.settings import combine
from tests.support.paths import ROOT

MANIFEST = ROOT / "deploy" / "kubernetes" / "headgate.yaml"
SCHEMAS = json.loads((ROOT / "tests" / "data" / "kubernetes" / "schemas.json").read_text())
DOCUMENTS = [*yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))]
(GATEWAYS,) = [one for one in DOCUMENTS if one["kind"] == "StatefulSet"]
CONTAINERS = {one["name"]: one for one in GATEWAYS["spec"]["template"]["spec"]["containers"]}


def faults(document: dict[str, Any]) -> list[str]:
    """What the schema of its kind says against it; a field that Kubernetes does not know is one."""
    name = SCHEMAS["kinds"][f"{document['apiVersion']} {document['kind']}"]
    whole = {"$ref": f"#/definitions/{name}", "definitions": SCHEMAS["definitions"]}
    return [str(one) for one in jsonschema_rs.Draft7Validator(whole).iter_errors(document)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one['kind']}")
def test_kubernetes_accepts_each_document(document: dict[str, Any]) -> None:
    assert faults(document) == []


def test_a_wrong_field_and_a_wrong_type_are_found() -> None:
    wrong = deepcopy(GATEWAYS)
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    assert "redinessProbe" in faults(wrong)[0]
    wrong = deepcopy(GATEWAYS)
    wrong["spec"]["replicas"] = "two"
    assert len(faults(wrong)) == 1


def test_parts_that_name_each_other_do_so_rightly() -> None:
    spec = GATEWAYS["spec"]
    labels = spec["template"]["metadata"]["labels"]
    services = {one["metadata"]["name"]: one for one in DOCUMENTS if one["kind"] == "Service"}
    assert spec["selector"]["matchLabels"] == labels
    assert all(one["spec"]["selector"] == labels for one in services.values())
    assert services[spec["serviceName"]]["spec"]["clusterIP"] == "None"
    volumes = {one["name"] for one in spec["template"]["spec"]["volumes"]}
    volumes |= {one["metadata"]["name"] for one in spec["volumeClaimTemplates"]}
    for container in CONTAINERS.values():
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "envFrom" not in CONTAINERS["receiver"], "the receiver has no credentials"


def test_the_settings_in_it_are_ours_and_a_run_starts_each_interval() -> None:
    (config,) = [one for one in DOCUMENTS if one["kind"] == "ConfigMap"]
    text = config["data"]["headgate.toml"].replace("BUCKET", "images")
    document = tomllib.loads(text)
    variables = {
        one["name"]: one["value"].replace("$(POD)", "headgate-0")
        for one in CONTAINERS["receiver"]["env"]
        if one["name"].startswith("HEADGATE_")
    }
    settings = combine(document, None, variables, {}, Path("/"))
    assert settings.uplink.interval == 60 and "% 60" in CONTAINERS["runs"]["args"][0]
    mounted = {mount["mountPath"] for mount in CONTAINERS["receiver"]["volumeMounts"]}
    assert str(settings.spool.path.parent) in mounted
    docker = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    user = GATEWAYS["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:" in docker
