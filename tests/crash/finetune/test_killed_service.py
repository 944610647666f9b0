"""kill -9 of the finetune service: trainers go on, the next service takes them up, and each job is published once."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from services.finetune.trainer.outcome import read_progress
from tests.crash.finetune.conftest import ServiceProcess, is_dead, kill, wait_until
from tests.integration.finetune.conftest import TEMPLATE, Workshop, reversals

pytestmark = [pytest.mark.crash, pytest.mark.engine]


class Client:
    """Calls that wait for the service to come up."""

    def __init__(self, service: ServiceProcess) -> None:
        self._channel = grpc.insecure_channel(service.address)
        self._stub = pb_grpc.FinetuneServiceStub(self._channel)

    def create(self, workshop: Workshop, dataset: str, request_id: str, **hyperparameters: float) -> pb.FinetuneJob:
        spec = pb.FinetuneSpec(
            kind=pb.FINETUNE_KIND_SFT,
            base_model=str(workshop.base_model),
            dataset_uri=dataset,
            output_uri=f"out/{request_id}",
            hyperparameters=pb.Hyperparameters(**{"learning_rate": 1e-3, **hyperparameters}),  # type: ignore[arg-type]
            template=common_pb2.PromptTemplate(text=TEMPLATE.text, target_prefix=TEMPLATE.target_prefix),
        )
        request = pb.CreateFinetuneJobRequest(request_id=request_id, spec=spec)
        job: pb.FinetuneJob = self._call(self._stub.CreateFinetuneJob, request)
        return job

    def get(self, name: str) -> pb.FinetuneJob:
        job: pb.FinetuneJob = self._call(self._stub.GetFinetuneJob, pb.GetFinetuneJobRequest(name=name))
        return job

    def cancel(self, name: str) -> pb.FinetuneJob:
        job: pb.FinetuneJob = self._call(self._stub.CancelFinetuneJob, pb.CancelFinetuneJobRequest(name=name))
        return job

    def wait_for(self, name: str, *states: pb.FinetuneJobState.ValueType) -> pb.FinetuneJob:
        job: pb.FinetuneJob = wait_until(lambda: (job := self.get(name)).state in states and job, seconds=180)
        return job

    @staticmethod
    def _call(method, request):  # type: ignore[no-untyped-def]
        def attempt():  # type: ignore[no-untyped-def]
            try:
                return method(request, timeout=5, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return None

        return wait_until(attempt)


def folder_of(workshop: Workshop, job: pb.FinetuneJob) -> Path:
    return workshop.folder / "state" / job.name


def trainer_pid(folder: Path) -> int:
    return int(json.loads((folder / "process.json").read_text())["pid"])


def test_jobs_outlive_their_service(workshop: Workshop, service: ServiceProcess) -> None:
    dataset = workshop.write_rows("rows", reversals(64))
    client = Client(service)
    request_id = str(uuid.uuid4())
    job = client.create(workshop, dataset, request_id, epochs=40, batch_size=4, save_steps=20)
    folder = folder_of(workshop, job)
    pid = wait_until(lambda: (folder / "process.json").exists() and trainer_pid(folder))
    service.kill()
    os.kill(pid, 0)

    service.start()
    # The caller never got its answer, and asks again.
    assert client.create(workshop, dataset, request_id, epochs=40, batch_size=4, save_steps=20).name == job.name
    assert trainer_pid(folder) == pid
    wait_until(lambda: read_progress(folder).step >= 20)
    kill(pid)
    service.kill()

    service.start()
    done = client.wait_for(job.name, pb.FINETUNE_JOB_STATE_SUCCEEDED, pb.FINETUNE_JOB_STATE_FAILED)
    assert done.state == pb.FINETUNE_JOB_STATE_SUCCEEDED, done
    assert done.attempts == 2
    assert done.checkpoint_digest == workshop.store.read_manifest(f"out/{request_id}").digest
    published_at = workshop.store.local_path(f"out/{request_id}/_MANIFEST.json").stat().st_mtime_ns

    service.kill()
    service.start()
    assert client.get(job.name).checkpoint_digest == done.checkpoint_digest
    assert workshop.store.local_path(f"out/{request_id}/_MANIFEST.json").stat().st_mtime_ns == published_at
    # Two trainers and one load test, however often the service died.
    assert (folder / "trainer.log").read_text().count("done: ") == 1


def test_cancel_ends_a_trainer_that_an_earlier_service_started(workshop: Workshop, service: ServiceProcess) -> None:
    client = Client(service)
    dataset = workshop.write_rows("rows", reversals(64))
    job = client.create(workshop, dataset, str(uuid.uuid4()), epochs=1000, batch_size=4)
    waiting = client.create(workshop, dataset, str(uuid.uuid4()), epochs=1)
    folder = folder_of(workshop, job)
    pid = wait_until(lambda: (folder / "process.json").exists() and trainer_pid(folder))
    assert client.wait_for(waiting.name, pb.FINETUNE_JOB_STATE_PENDING).conditions[-1].reason in {"CREATED", "WAITING"}
    service.kill()
    service.start()
    assert client.cancel(job.name).state == pb.FINETUNE_JOB_STATE_CANCELLED
    assert is_dead(pid)
    assert client.cancel(waiting.name).state == pb.FINETUNE_JOB_STATE_CANCELLED
