"""A release of the chart of which a few components run, and how one calls it from this machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilf_client import Security
from ilf_client.connection import write_secrets
from tests.cluster.chart import CHART, values_file

_VALUES = {"autoscaling.mode": "fixed", "reward.enabled": "false", "tests.enabled": "false"}


def missing() -> str:
    """What keeps a release from being installed here; "" when nothing does."""
    for variable in ("KUBECONFIG", "ILF_TEST_REGISTRY", "ILF_TEST_TAG"):
        if variable not in os.environ:
            return f"{variable} is not set: a cluster and images on it are needed"
    return "" if shutil.which("helm") else "there is no helm on the PATH"


def command(*arguments: str, text: str | None = None, timeout: float = 120) -> str:
    """What a program prints, given a text; its complaint is the assertion's message where it fails."""
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def image(name: str) -> str:
    """One of the images under test."""
    return f"{os.environ['ILF_TEST_REGISTRY']}/ilf/{name}:{os.environ['ILF_TEST_TAG']}"


@dataclass(frozen=True)
class SmallRelease:
    """The release `ilf` in a namespace of its own."""

    namespace: str

    def kubectl(self, *arguments: str, text: str | None = None, timeout: float = 120) -> str:
        """kubectl in the namespace."""
        return command("kubectl", "-n", self.namespace, *arguments, text=text, timeout=timeout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Creates or changes objects."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def secret(self, name: str) -> dict[str, bytes]:
        """The content of a Secret."""
        data = json.loads(self.kubectl("get", "secret", name, "-o", "json"))["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def security(self, folder: Path) -> Security:
        """What a client of the release needs, written into a folder."""
        tls = self.secret("ilf-client-tls")
        files = {"tls_ca_file": tls["ca.crt"], "tls_cert_file": tls["tls.crt"], "tls_key_file": tls["tls.key"]}
        return write_secrets(folder, {**files, "token_file": self.secret("ilf-token")["token"]})

    def node_port(self, service: str) -> str:
        """An address on this machine, as the servers' certificates name it, that leads to a Service."""
        spec = json.loads(self.kubectl("get", "service", f"ilf-{service}", "-o", "json"))["spec"]
        grpc = next(port for port in spec["ports"] if port["name"] == "grpc")
        opened = {"type": "NodePort", "selector": spec["selector"], "ports": [{"name": "grpc", "port": grpc["port"]}]}
        name = f"{service}-outside"
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": opened})
        port = self.kubectl("get", "service", name, "-o", "jsonpath={.spec.ports[0].nodePort}")
        return f"localhost:{port}"


@contextmanager
def small_release(components: Sequence[str], **values: str) -> Iterator[SmallRelease]:
    """Installs the chart with the values for a CPU, waits until the Deployments `components` serve, removes it.

    Args:
        components: Those that run, such as "refinement-front".
        values: Further values; "__" stands for "." in their names.
    """
    release = SmallRelease(f"ilf-small-{uuid.uuid4().hex[:6]}")
    command("kubectl", "create", "namespace", release.namespace)
    try:
        release.kubectl("label", "namespace", release.namespace, "pod-security.kubernetes.io/enforce=restricted")
        images = {"image.registry": os.environ["ILF_TEST_REGISTRY"], "image.tag": os.environ["ILF_TEST_TAG"]}
        chosen = {**_VALUES, **images, **{name.replace("__", "."): value for name, value in values.items()}}
        options = [option for name, value in chosen.items() for option in ("--set", f"{name}={value}")]
        in_place = ("-n", release.namespace, "--values", str(values_file("cpu")))
        command("helm", "install", "ilf", str(CHART), *in_place, *options)
        # Before their pods have begun: nobody needs them here.
        others = f"app.kubernetes.io/part-of=ilf,app.kubernetes.io/component notin ({','.join(components)})"
        release.kubectl("scale", "deployment,statefulset", "--selector", others, "--replicas=0")
        for name in components:
            ready = ("wait", f"deployment/ilf-{name}", "--for=condition=Available", "--timeout=240s")
            release.kubectl(*ready, timeout=250)
        yield release
    finally:
        subprocess.run(["helm", "uninstall", "ilf", "-n", release.namespace], capture_output=True, check=False)
        command("kubectl", "delete", "namespace", release.namespace, "--wait=false")
