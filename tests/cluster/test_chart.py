"""The chart's objects: what every pod holds, what the API server takes, and what typos are told."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.cluster.chart import CHART, CI, CRDS, needs_helm, render, template, values_file

pytestmark = needs_helm

needs_cluster = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None,
    reason="KUBECONFIG names no cluster, or there is no kubectl",
)
IN_THE_CLUSTER = ("keda.sh/v1alpha1", "ray.io/v1", "kueue.x-k8s.io/v1beta2", "metrics.k8s.io/v1beta1")


def kubectl(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """One that warns of what the restricted level forbids."""
    name = f"ilf-chart-{uuid.uuid4().hex[:6]}"
    assert kubectl("create", "namespace", name).returncode == 0
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def served(api: str) -> bool:
    return api in kubectl("api-versions").stdout.split()


def pod_templates(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and spec of every pod that the objects lead to."""
    for one in objects:
        name, spec = f"{one['kind']}/{one['metadata']['name']}", one.get("spec", {})
        if one["kind"] == "Pod":
            yield name, spec
        elif one["kind"] in ("Deployment", "StatefulSet"):
            yield name, spec["template"]["spec"]
        elif one["kind"] == "RayService":
            cluster = spec["rayClusterConfig"]
            yield f"{name}/head", cluster["headGroupSpec"]["template"]["spec"]
            yield f"{name}/judges", cluster["workerGroupSpecs"][0]["template"]["spec"]


@pytest.mark.parametrize("values", CI)
@pytest.mark.parametrize("apis", [(), CRDS], ids=["plain", "with-all-operators"])
def test_every_pod_holds_the_restricted_level_and_mounts_no_token(values: str, apis: tuple[str, ...]) -> None:
    arguments = ["-f", str(values_file(values))]
    # The file says "inprocess", which is not what is tested here.
    arguments += ["--set", "ranking.ray.mode=auto"]
    found = dict(pod_templates(render(*arguments, apis=apis)))
    assert len(found) >= 8
    for name, spec in found.items():
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] > 0, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"], name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
        # KubeRay gives the head what its autoscaler needs; the controller of training jobs has the one Role.
        if "finetune" in name or name.endswith("/head"):
            continue
        assert spec["automountServiceAccountToken"] is False, name


def test_every_workload_has_a_network_policy() -> None:
    for apis in ((), CRDS):
        objects = render(apis=apis)
        chosen = [
            one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for one in objects
            if one["kind"] == "NetworkPolicy"
        ]
        components = {
            one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
            for one in objects
            if one["kind"] in ("Deployment", "StatefulSet")
        }
        assert len(chosen) == len(set(chosen))
        assert components | {"trainer"} <= set(chosen)


def test_the_certificate_holds_every_name_that_is_called() -> None:
    objects = render(namespace="team")
    (secret,) = [one for one in objects if one["metadata"]["name"] == "ilf-tls"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = set(names.get_values_for_type(x509.DNSName))
    for one in objects:
        if one["kind"] == "Service" and "grpc" in [port["name"] for port in one["spec"]["ports"]]:
            name = one["metadata"]["name"]
            assert {name, f"{name}.team", f"{name}.team.svc", f"{name}.team.svc.cluster.local"} <= held
    assert "*.ilf-refinement-workers.team.svc.cluster.local" in held


TYPOS = {
    "refinment: {}": "refinment",
    "refinement: {pool: {maxReplica: 2}}": "maxReplica",
    "refinement: {pool: {maxReplicas: many}}": "/refinement/pool/maxReplicas",
    "refinement: {settings: {engine: {dtyp: bfloat16}}}": "dtyp",
    "refinement: {settings: {engine: {dtype: int3}}}": "/refinement/settings/engine/dtype",
    "refinement: {settings: {store: {root: x}}}": "store",
    "ranking: {settings: {judges: [{nam: x}]}}": "nam",
    "ranking: {ray: {mode: sometimes}}": "/ranking/ray/mode",
    "training: {settings: {fsdp: perhaps}}": "/training/settings/fsdp",
    "training: {placements: {large: {gpus: 4}}}": "gpus",
    "orchestrator: {settings: {limits: {shards_in_flight: 0}}}": "shards_in_flight",
    "console: {settings: {oidc: {isuer: x}}}": "isuer",
    "console: {ingress: {hostname: x}}": "hostname",
    "finetune: {settings: {stall_seconds: soon}}": "stall_seconds",
    "store: {root: /somewhere}": "/store/root",
    "tls: {mode: yes please}": "/tls/mode",
    "image: {tga: dev}": "tga",
    "networkPolicy: {clients: [{podSelector: {matchLabel: {a: b}}}]}": "matchLabel",
    "postgresql: {size: big}": "/postgresql/size",
    "metrics: {interval: often}": "/metrics/interval",
    "models: {a: 3}": "/models/a",
}


@pytest.mark.parametrize("text", TYPOS, ids=lambda text: text.split(":")[0])
def test_a_typo_is_refused_with_its_path(text: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text, encoding="utf-8")
    done = template("-f", str(file))
    assert done.returncode != 0
    assert TYPOS[text] in done.stderr


def test_the_readme_tells_of_every_value() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    missing = [
        path
        for group, content in values.items()
        for path in (
            [f"`{group}.{name}" for name in content] if isinstance(content, dict) and content else [f"`{group}"]
        )
        if path not in readme and f"`*.{path.split('.')[-1]}" not in readme
    ]
    assert not missing


def as_template(one: dict[str, Any]) -> dict[str, Any]:
    """A pod as that of a Job: by itself it would need its ServiceAccount and PriorityClass to be there already."""
    if one["kind"] != "Pod":
        return one
    template = {"metadata": {"labels": one["metadata"]["labels"]}, "spec": one["spec"]}
    metadata = {"name": one["metadata"]["name"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


def apply_on_trial(objects: list[dict[str, Any]], namespace: str) -> str:
    """What the API server says of the objects, which it does not keep."""
    items = {"apiVersion": "v1", "kind": "List", "items": [as_template(one) for one in objects]}
    done = kubectl(
        "apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(items)
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@needs_cluster
@pytest.mark.parametrize("values", CI)
def test_the_api_server_takes_all_objects(values: str, namespace: str) -> None:
    apis = [api for api in IN_THE_CLUSTER if served(api)]
    arguments = ["-f", str(values_file(values)), "--set", "metrics.dashboard.enabled=true"]
    for arguments_of_ranking in ([], ["--set", "ranking.ray.mode=auto"]):
        warnings = apply_on_trial(render(*arguments, *arguments_of_ranking, apis=apis, namespace=namespace), namespace)
        assert "would violate PodSecurity" not in warnings, warnings


@needs_cluster
@pytest.mark.parametrize("missing", IN_THE_CLUSTER)
def test_the_api_server_takes_them_without_each_operator(missing: str, namespace: str) -> None:
    apis = [api for api in IN_THE_CLUSTER if api != missing and served(api)]
    objects = render("-f", str(values_file("gpu")), apis=apis, namespace=namespace)
    assert not any(one["apiVersion"] == missing for one in objects)
    assert "would violate PodSecurity" not in apply_on_trial(objects, namespace)


@needs_cluster
def test_the_api_server_takes_them_without_any_operator(namespace: str) -> None:
    assert "would violate PodSecurity" not in apply_on_trial(render(namespace=namespace), namespace)
