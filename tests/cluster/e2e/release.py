"""A release of the chart on the cluster of KUBECONFIG, handled by helm and kubectl as an operator would."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "ilf"
CPU_VALUES = CHART / "ci" / "cpu-values.yaml"
OWN_VALUES = Path(__file__).with_name("values.yaml")
_STORE_SECRET = "test-store"
_UNIQUE = uuid.uuid4().hex
"""What an earlier release has computed is not to be found again."""

_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def command(*arguments: str, timeout: float = 120, text: str | None = None) -> str:
    """What a program prints, given a text; its complaint is the assertion's message where it fails."""
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True)
class Release:
    """One release in a namespace of its own; ILF_TEST_* name its images, and an object store in place of a claim."""

    name: str
    namespace: str

    @property
    def _values(self) -> list[str]:
        registry = os.environ.get("ILF_TEST_REGISTRY", "")
        tag = os.environ.get("ILF_TEST_TAG", "dev")
        settings = [f"image.registry={registry}", f"image.tag={tag}"]
        if database := os.environ.get("ILF_TEST_POSTGRES_IMAGE"):
            settings.append(f"postgresql.image={database}")
        if store := os.environ.get("ILF_TEST_STORE"):
            place, _, options = store.partition("?")
            settings += [f"store.root={place}/{_UNIQUE}?{options}", f"store.existingSecret={_STORE_SECRET}"]
        files = [option for file in (CPU_VALUES, OWN_VALUES) for option in ("--values", str(file))]
        return [*files, *(option for value in settings for option in ("--set", value))]

    def install(self) -> None:
        """Makes the namespace, with the strictest Pod Security, and installs the chart."""
        command("kubectl", "create", "namespace", self.namespace)
        level = "pod-security.kubernetes.io/enforce=restricted"
        command("kubectl", "label", "namespace", self.namespace, level)
        if os.environ.get("ILF_TEST_STORE"):
            keys = [f"--from-literal={name}={os.environ[name]}" for name in _STORE_KEYS]
            command("kubectl", "-n", self.namespace, "create", "secret", "generic", _STORE_SECRET, *keys)
        self._helm("install", self.name, str(CHART), *self._values, "--wait", "--timeout", "6m")

    def upgrade(self, **values: str) -> None:
        """Upgrades with further values."""
        extra = [option for name, value in values.items() for option in ("--set", f"{name}={value}")]
        self._helm("upgrade", self.name, str(CHART), *self._values, *extra, "--wait", "--timeout", "6m")

    def test(self) -> None:
        """Runs `helm test`."""
        self._helm("test", self.name, "--logs", "--timeout", "9m", timeout=600)

    def uninstall(self) -> None:
        """Removes the release; what holds data stays."""
        self._helm("uninstall", self.name, "--wait", "--timeout", "5m")

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects of a kind in the namespace."""
        listed = json.loads(command("kubectl", "-n", self.namespace, "get", kind, *arguments, "-o", "json"))
        items: list[dict[str, Any]] = listed["items"]
        return items

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of a component that have not ended."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")
        return [pod for pod in found if pod["status"].get("phase") in ("Pending", "Running")]

    def delete_pod(self, name: str) -> None:
        """Deletes a pod at once, as a node that is lost would."""
        command("kubectl", "-n", self.namespace, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")

    def drop(self) -> None:
        """Deletes the namespace with all that is left."""
        subprocess.run(
            ["helm", "uninstall", self.name, "-n", self.namespace], capture_output=True, timeout=120, check=False
        )
        subprocess.run(
            ["kubectl", "delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=180s"],
            capture_output=True,
            timeout=240,
            check=False,
        )

    def _helm(self, verb: str, *arguments: str, timeout: float = 500) -> str:
        return command("helm", verb, *arguments, "-n", self.namespace, timeout=timeout)
