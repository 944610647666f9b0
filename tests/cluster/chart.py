"""Helm, and what it renders, for the tests of the chart."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "ilf"
KUBERNETES = "1.34.0"
CRDS = (
    "keda.sh/v1alpha1",
    "ray.io/v1",
    "kueue.x-k8s.io/v1beta2",
    "cert-manager.io/v1",
    "monitoring.coreos.com/v1",
    "gateway.networking.k8s.io/v1",
    "metrics.k8s.io/v1beta1",
)
CI = ("cpu", "gpu", "external")

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="there is no helm on the PATH")


def values_file(name: str) -> Path:
    """One of the files of charts/ilf/ci."""
    return CHART / "ci" / f"{name}-values.yaml"


def template(
    *arguments: str, apis: Sequence[str] = (), release: str = "ilf", namespace: str = "default"
) -> subprocess.CompletedProcess[str]:
    """`helm template`, for a cluster that has these APIs beside Kubernetes' own."""
    command = ["helm", "template", release, str(CHART), "--namespace", namespace, "--kube-version", KUBERNETES]
    for api in apis:
        command += ["--api-versions", api]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def render(*arguments: str, apis: Sequence[str] = (), namespace: str = "default") -> list[dict[str, Any]]:
    """The objects that `helm template` makes."""
    done = template(*arguments, apis=apis, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found
