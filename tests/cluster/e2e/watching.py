"""Writes down when the pods of each component held a place on a node, as the API server told it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any

SERVING = ("refinement-worker", "ranking-worker", "reward-worker")
TRAINER = "trainer"


@dataclass
class Stay:
    """One pod's stay on a node, in seconds of this machine's clock.

    Attributes:
        begin: When it was bound to the node.
        ready: Whether it takes calls now.
        leaving: Somebody has deleted it.
        end: When all of its containers had ended, or it was gone.
    """

    name: str
    component: str
    begin: float
    ready: bool = False
    leaving: bool = False
    end: float | None = None

    def overlaps(self, moment: float) -> bool:
        """Whether it held its place at a moment."""
        return self.begin <= moment and (self.end is None or moment < self.end)


@dataclass
class PodWatch:
    """Follows the pods of a namespace until it is closed; goes on where the API server goes away for a while."""

    namespace: str
    stays: dict[str, Stay] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)

    def of(self, *components: str) -> list[Stay]:
        """Stays of components, in the order in which they began."""
        with self._lock:
            found = [stay for stay in self.stays.values() if stay.component in components]
        return sorted(found, key=lambda stay: stay.begin)

    def ready(self, component: str) -> list[str]:
        """Names of a component's pods that take calls and that nobody has deleted."""
        return [stay.name for stay in self.of(component) if stay.ready and not stay.leaving and stay.end is None]

    def most_at_once(self, component: str) -> int:
        """How many pods of a component held places at the same time."""
        stays = self.of(component)
        return max((sum(other.overlaps(stay.begin) for other in stays) for stay in stays), default=0)

    def _follow(self) -> None:
        get = ["kubectl", "-n", self.namespace, "get", "pods", "-o", "json"]
        while not self._closed.is_set():
            listed = subprocess.run(get, capture_output=True, text=True, check=False)
            if listed.returncode == 0:
                self._relist(json.loads(listed.stdout)["items"])
                watch = [*get, "--watch", "--output-watch-events"]
                self._process = subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                self._read(self._process)
            self._closed.wait(0.5)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["object"].get("kind") == "Pod":
                with self._lock:
                    self._note(event["type"], event["object"])
        process.wait()

    def _relist(self, pods: list[dict[str, Any]]) -> None:
        there = {pod["metadata"]["uid"] for pod in pods}
        with self._lock:
            for uid, stay in self.stays.items():
                if uid not in there and stay.end is None:
                    stay.end = time.monotonic()
            for pod in pods:
                self._note("ADDED", pod)

    def _note(self, kind: str, pod: dict[str, Any]) -> None:
        now = time.monotonic()
        metadata, status = pod["metadata"], pod.get("status", {})
        if not pod["spec"].get("nodeName"):
            return
        component = metadata.get("labels", {}).get("app.kubernetes.io/component", "")
        stay = self.stays.setdefault(metadata["uid"], Stay(metadata["name"], component, now))
        stay.ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))
        stay.leaving = "deletionTimestamp" in metadata
        if stay.end is None and (kind == "DELETED" or status.get("phase") in ("Succeeded", "Failed")):
            stay.end = now
