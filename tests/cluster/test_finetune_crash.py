"""kill -9 of the controller, as a process of its own: the cluster is all that the next one needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from services.finetune.models import job_id_of
from services.finetune.trainer.outcome import TrainerResult
from tests.cluster.finetune_cluster import Place, namespace, needs_cluster
from tests.support import free_ports

pytestmark = [needs_cluster, pytest.mark.cluster, pytest.mark.crash]


class ControllerProcess:
    """`python -m services.finetune`, as often as it is started."""

    def __init__(self, place: Place, scripts: dict[str, str]) -> None:
        (self.port,) = free_ports(1)
        settings = json.loads(place.settings(scripts).model_dump_json(exclude_unset=True))
        settings["server"] = {"port": self.port, "metrics_port": 0}
        file = place.folder / "config.json"
        file.write_text(json.dumps({"finetune": settings}))
        self._environment = {**os.environ, "ILF_CONFIG_FILE": str(file)}
        self._process: subprocess.Popen[bytes] | None = None
        self._stub = pb_grpc.FinetuneServiceStub(grpc.insecure_channel(f"127.0.0.1:{self.port}"))

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "services.finetune"], env=self._environment)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def create(self, request_id: str, script: str) -> pb.FinetuneJob:
        spec = pb.FinetuneSpec(
            kind=pb.FINETUNE_KIND_SFT,
            base_model="base",
            dataset_uri="data/rows.jsonl",
            output_uri=f"out/{request_id}",
            template=common_pb2.PromptTemplate(text="say {context}"),
            placement=script,
        )
        return self._call("CreateFinetuneJob", pb.CreateFinetuneJobRequest(request_id=request_id, spec=spec))

    def until(self, name: str, *states: int, step: int = 0) -> pb.FinetuneJob:
        deadline = time.monotonic() + 90
        while True:
            job = self._call("GetFinetuneJob", pb.GetFinetuneJobRequest(name=name))
            if job.state in states and job.progress.step >= step:
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.1)

    def _call(self, method: str, request: object) -> pb.FinetuneJob:
        deadline = time.monotonic() + 60
        while True:
            try:
                job: pb.FinetuneJob = getattr(self._stub, method)(request, timeout=20, wait_for_ready=True)
                return job
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() < deadline, error
                time.sleep(0.2)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with namespace(tmp_path) as place:
        yield place


@pytest.fixture
def controller(place: Place) -> Iterator[ControllerProcess]:
    controller = ControllerProcess(place, {"long": "sleep 40"})
    controller.start()
    yield controller
    controller.kill()


def test_a_job_goes_on_through_the_death_of_its_controller(place: Place, controller: ControllerProcess) -> None:
    created = controller.create("r1", "long")
    # Before, during and after it has written down what it does, whichever it is this time.
    controller.kill()
    controller.start()
    assert controller.create("r1", "long").name == created.name
    controller.until(created.name, pb.FINETUNE_JOB_STATE_RUNNING)
    job_id = job_id_of("r1")
    place.step(job_id, 5)
    controller.until(created.name, pb.FINETUNE_JOB_STATE_RUNNING, step=5)
    controller.kill()
    place.step(job_id, 7)
    controller.start()
    seen = controller.until(created.name, pb.FINETUNE_JOB_STATE_RUNNING, step=7)
    assert seen.attempts == 1
    controller.kill()
    place.finish(job_id, TrainerResult(checkpoint_digest="d1"))
    place.kubectl("wait", "--for=condition=Complete", f"job/{job_id}", "--timeout=90s")
    controller.start()
    done = controller.until(created.name, pb.FINETUNE_JOB_STATE_SUCCEEDED)
    assert (done.checkpoint_digest, done.attempts) == ("d1", 1)
    assert len(place.find("jobs")) == 1
