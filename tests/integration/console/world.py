"""The console over a real orchestrator, each a process of its own, with stand-ins for the four services behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ilf_client import Client, Endpoints
from ilf_client.config import build
from ilf_client.models.runs import Run
from ilf_client.models.specs import RunSpec
from ilf_client.stack.console import ConsolePlace
from ilf_client.stack.health import Health, ask_all
from tests.fakes.console_peers import HOLD
from tests.support import free_ports

ROOT = Path(__file__).parents[3]
START_SECONDS = 180.0


def wait_until(happens: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Looks every twentieth of a second."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


@dataclass
class World:
    """Three processes, the folder that holds all they keep, and a client of the services.

    Attributes:
        folder: State, store and logs.
        console: Settings of the console, beyond those that every test has.
        pool: Settings of a pool that the stand-in for refinement serves in, behind a real front; None for no pool.
        https_port: Where something that ends TLS stands before the console; 0 for nothing.
        stand_ins: Module of the program that stands in for refinement, ranking, reward, finetune and a plugin.
    """

    folder: Path
    console: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] | None = None
    https_port: int = 0
    stand_ins: str = "tests.fakes.console_peers"
    ports: Sequence[int] = field(default_factory=lambda: free_ports(4))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def peers(self) -> str:
        """Address of the stand-ins; a plugin that gives feedback is one of them."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def endpoints(self) -> Endpoints:
        """Where the services are."""
        refinement = self.peers if self.pool is None else f"127.0.0.1:{self.ports[3]}"
        return replace(Endpoints.at(self.peers), refinement=refinement, orchestrator=f"127.0.0.1:{self.ports[1]}")

    @property
    def place(self) -> ConsolePlace:
        """Where the console is."""
        address = f"127.0.0.1:{self.ports[2]}"
        url = f"https://127.0.0.1:{self.https_port}" if self.https_port else f"http://{address}"
        return ConsolePlace(address, url, str(self.folder / "console" / "token"))

    @property
    def url(self) -> str:
        """The console's address without a path."""
        return self.place.url

    def client(self) -> Client:
        """A client of the services."""
        return Client(self.endpoints)

    def start(self, *names: str) -> None:
        """Starts processes, all without names, and waits until each answers."""
        self._write_settings()
        front = () if self.pool is None else ("front",)
        for name in names or ("peers", *front, "orchestrator", "console"):
            getattr(self, f"_start_{name}")()

    def stop(self, *names: str) -> None:
        """Kills processes, all without names."""
        for name in names or tuple(self.processes):
            process = self.processes.pop(name)
            process.kill()
            process.wait()

    def create(
        self, run_id: str, rows: Sequence[dict[str, str]], *, tested: Sequence[dict[str, str]] = (), **changes: Any
    ) -> Run:
        """A run over these rows; people give its feedback unless `changes` of the spec say otherwise."""
        spec = {
            "dataset": {
                "train_uri": self._write_rows(f"{run_id}-train", rows),
                "test_uri": self._write_rows(f"{run_id}-test", tested or made_rows(f"{run_id}-test", 2)),
            },
            "iterations": 1,
            "seed": 7,
            "shard_rows": 8,
            "policy": "base",
            "generate": {"template": {"name": "policy", "text": "{context}"}},
            "feedback": {"source": "people"},
            "refine": {"refiner": "refiner", "sampling": {"n": 3}},
            "evaluate": {"plugin_address": self.peers},
            **changes,
        }
        with self.client() as client:
            return client.runs.create(build(RunSpec, spec, folder=None), run_id=run_id)

    def create_waiting(self, run_id: str, rows: Sequence[dict[str, str]], **changes: Any) -> Run:
        """A run that waits for people."""
        run = self.create(run_id, rows, **changes)
        with self.client() as client:
            wait_until(lambda: (waiting := client.runs.get(run.name).waiting) and waiting.reason == "PEOPLE", "waiting")
            return client.runs.get(run.name)

    def create_finished(self, run_id: str, rows: Sequence[dict[str, str]], **changes: Any) -> Run:
        """A run whose feedback a program has given, with what came of it."""
        run = self.create(run_id, rows, feedback={"source": "plugin", "plugin_address": self.peers}, **changes)
        return self.ended(run.name)

    def hold_jobs(self, step: int | None) -> None:
        """Lets finetune jobs go on as far as a step, and no further; None lets them end."""
        file = self.folder / HOLD
        if step is None:
            return file.unlink()
        part = file.with_suffix(".part")
        part.write_text(str(step), encoding="ascii")
        part.replace(file)

    def ended(self, name: str) -> Run:
        """The run, once it has ended."""
        with self.client() as client:
            *_, last = client.runs.watch(name)
        return last

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def _start_peers(self) -> None:
        self._spawn("peers", self.stand_ins, f"--store={self.folder / 'store'}", f"--port={self.ports[0]}")
        wait_until(lambda: self._serves("finetune"), "the start of the stand-ins")

    def _start_front(self) -> None:
        self._spawn("front", "services.refinement", "--role=front")
        wait_until(lambda: self._serves("refinement"), "the front's start")

    def _start_orchestrator(self) -> None:
        self._spawn("orchestrator", "services.orchestrator")
        wait_until(lambda: self._serves("orchestrator"), "the orchestrator's start")

    def _start_console(self) -> None:
        self._spawn("console", "services.console")
        wait_until(self.place.answers, "the console's start")

    def _serves(self, service: str) -> bool:
        # In a thread: an open browser has an event loop in this one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(ask_all, self.endpoints).result()[service] is Health.SERVING

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        environment = environment_with(ILF_CONFIG_FILE=str(self.folder / "config.json"))
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], env=environment, cwd=ROOT, stdout=log, stderr=log
            )

    def _write_settings(self) -> None:
        places = dict(vars(self.endpoints))
        peers = {service: {"address": address} for service, address in places.items() if service != "orchestrator"}
        pools = {"refinement": {"front": peers["refinement"], **self.pool}} if self.pool is not None else {}
        store = {"root": str(self.folder / "store")}
        settings = {
            "refinement_front": {
                "server": {"port": self.ports[3], "metrics_port": 0},
                "store": store,
                "workers": {"address": self.peers},
                "resolve_seconds": 0.2,
            },
            "orchestrator": {
                "server": {"port": self.ports[1], "metrics_port": 0},
                "store": store,
                "state_dir": str(self.folder / "orchestrator"),
                "pools": pools,
                **peers,
            },
            "console": {
                "server": {"port": self.ports[2], "url": self.url},
                "services": places,
                "state_dir": str(self.folder / "console"),
                **self.console,
            },
        }
        # JSON is YAML too.
        (self.folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")

    def _write_rows(self, name: str, rows: Sequence[dict[str, str]]) -> str:
        path = self.folder / "store" / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"data/{path.name}"


def environment_with(**variables: str) -> dict[str, str]:
    """What a program of this checkout is started with: no setting of the machine's own reaches it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ILF_")}
    return {**plain, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}", **variables}


def judged_by(count: int) -> dict[str, Any]:
    """Setting `rank` of a run: so many judges, judge-0 and so on, score its refinements."""
    judges = [{"name": f"judge-{n}", "model": "base", "template": "instruct_rm_1"} for n in range(count)]
    return {"ranker": {"name": "instruct_rm", "judges": judges}}


def made_rows(prefix: str, count: int) -> list[dict[str, str]]:
    """Items of a dataset."""
    return [{"id": f"{prefix}-{n}", "context": f"{prefix} context {n}"} for n in range(count)]
