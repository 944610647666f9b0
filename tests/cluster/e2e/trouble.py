"""What happens to a run on a cluster: one fault after the other, each at its moment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.e2e.release import Release, command
from tests.cluster.e2e.watching import PodWatch


@dataclass
class Scene:
    """What a fault may look at.

    Attributes:
        run: The run as `ilf runs show` told it last.
    """

    release: Release
    pods: PodWatch
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The first stage that is at work: "it-1/refine"."""
        return stage_of(self.run)

    @property
    def waits_for(self) -> str:
        """The reason that the run gives."""
        waiting = self.run.get("waiting") or {}
        return f"{waiting.get('reason', '')}: {waiting.get('message', '')}"


def stage_of(run: dict[str, Any]) -> str:
    """The first stage that is at work: "it-1/refine"; nothing between two."""
    for iteration in run.get("iterations", ()):
        for stage in iteration["stages"]:
            if stage["state"] == "running":
                return f"it-{iteration['index']}/{stage['stage']}"
    return ""


When = Callable[[Scene], bool]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        when: The moment to make it.
        make: Makes it.
        mend: Puts it right again.
        mended_when: The moment to mend it, seconds after it was made.
    """

    name: str
    when: When
    make: Callable[[Scene], None]
    mend: Callable[[Scene], None] = lambda scene: None
    mended_when: Callable[[Scene, float], bool] = lambda scene, seconds: True


class Trouble:
    """Makes faults in their order; the next one only when the last is mended."""

    def __init__(self, scene: Scene, faults: list[Fault]) -> None:
        self.left = list(faults)
        self.scene = scene
        self._made: float | None = None

    def step(self) -> None:
        """Looks whether it is time for something."""
        if not self.left:
            return
        fault = self.left[0]
        if self._made is None and fault.when(self.scene):
            print(f"{time.strftime('%X')} {self.scene.stage}: {fault.name}", flush=True)
            fault.make(self.scene)
            self._made = time.monotonic()
        if self._made is not None and fault.mended_when(self.scene, time.monotonic() - self._made):
            self.mend()
            self.left.pop(0)

    def mend(self) -> None:
        """Puts right what is wrong now."""
        if self._made is not None:
            self.left[0].mend(self.scene)
            self._made = None


def always(scene: Scene) -> bool:
    """Any moment."""
    return True


def serves(component: str) -> When:
    """A component has a ready pod."""
    return lambda scene: bool(scene.pods.ready(component))


def delete(component: str, when: When = always) -> Fault:
    """One ready pod of a component is lost, at a moment."""

    def make(scene: Scene) -> None:
        scene.release.delete_pod(scene.pods.ready(component)[0])

    return Fault(f"delete {component}", lambda scene: bool(scene.pods.ready(component)) and when(scene), make)


def stop(workload: str, seconds: float, namespace: str | None = None) -> Fault:
    """A workload has no pods for a while; `{}` in its name is the release."""

    def scale(replicas: int) -> Callable[[Scene], None]:
        def change(scene: Scene) -> None:
            where = namespace or scene.release.namespace
            command("kubectl", "-n", where, "scale", workload.format(scene.release.name), f"--replicas={replicas}")

        return change

    return Fault(f"stop {workload} for {seconds:g} s", always, scale(0), scale(1), lambda scene, past: past >= seconds)


def hook(variable: str, seconds: float = 0.0) -> list[Fault]:
    """What only the cluster's owner can do, by the shell command in a variable, `VARIABLE_MEND` ends it."""
    if not os.environ.get(variable):
        return []

    def shell(name: str) -> Callable[[Scene], None]:
        def run(scene: Scene) -> None:
            command("bash", "-c", os.environ.get(name, "true"), timeout=300)

        return run

    return [Fault(variable, always, shell(variable), shell(f"{variable}_MEND"), lambda scene, past: past >= seconds)]


def fill_quota() -> Fault:
    """Another team's job has all GPUs, from before the run begins until the run has said that it waits."""

    def filler(scene: Scene) -> dict[str, Any]:
        return next((job for job in scene.release.get("jobs") if job["metadata"]["name"] == "filler"), {})

    def make(scene: Scene) -> None:
        queue = next(one for one in scene.release.get("localqueues") if one["metadata"]["name"].endswith("training"))
        job = _filler(queue["metadata"]["name"])
        command("kubectl", "-n", scene.release.namespace, "apply", "-f", "-", text=json.dumps(job))
        until(lambda: filler(scene)["status"].get("active"), 120, "the other team's job was not admitted")

    def mend(scene: Scene) -> None:
        command("kubectl", "-n", scene.release.namespace, "delete", "job", "filler", "--cascade=foreground")

    def mended_when(scene: Scene, past: float) -> bool:
        return "_UNAVAILABLE" in scene.waits_for and not scene.pods.of("refinement-worker", "ranking-worker")

    return Fault("fill the quota", always, make, mend, mended_when)


def take_gpus(seconds: float) -> Fault:
    """No node has GPUs for a while."""
    nodes = json.loads(command("kubectl", "get", "nodes", "-o", "json"))["items"]
    had = {node["metadata"]["name"]: node["status"]["capacity"].get("nvidia.com/gpu", "0") for node in nodes}

    def give(amounts: dict[str, str]) -> Callable[[Scene], None]:
        def patch(scene: Scene) -> None:
            for name, amount in amounts.items():
                status = {"capacity": {"nvidia.com/gpu": amount}, "allocatable": {"nvidia.com/gpu": amount}}
                body = json.dumps({"status": status})
                command("kubectl", "patch", "node", name, "--subresource=status", "--type=merge", "-p", body)

        return patch

    none = dict.fromkeys(had, "0")
    return Fault("take the GPUs away", always, give(none), give(had), lambda scene, past: past >= seconds)


def rotate_certificates() -> Fault:
    """The chart makes new certificates; services pick them up without a restart."""
    return Fault("rotate the certificates", always, lambda scene: scene.release.upgrade(**{"tls.rotation": "second"}))


def cut_off(policy: str, when: When, seconds: float) -> Fault:
    """Nobody may call a component for a while."""
    kept: list[Any] = []

    def patch(scene: Scene, ingress: Any) -> None:
        name = f"{scene.release.name}-{policy}"
        body = json.dumps({"spec": {"ingress": ingress}})
        command("kubectl", "-n", scene.release.namespace, "patch", "networkpolicy", name, "--type=merge", "-p", body)

    def make(scene: Scene) -> None:
        found = scene.release.get("networkpolicies")
        one = next(item for item in found if item["metadata"]["name"] == f"{scene.release.name}-{policy}")
        kept.append(one["spec"]["ingress"])
        patch(scene, [])

    return Fault(
        f"cut off {policy}", when, make, lambda scene: patch(scene, kept.pop()), lambda scene, past: past >= seconds
    )


def until(condition: Callable[[], Any], seconds: float, otherwise: str) -> None:
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(1)


def _filler(queue: str) -> dict[str, Any]:
    container = {
        "name": "filler",
        "image": os.environ.get("ILF_TEST_BUSYBOX_IMAGE", "busybox:1.35"),
        "command": ["sleep", "3600"],
        "resources": {"limits": {"nvidia.com/gpu": 3}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "filler", "labels": {"kueue.x-k8s.io/queue-name": queue}},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
