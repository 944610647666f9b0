"""Runs of the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_client._convert import from_proto, to_proto
from ilf_client._transport import collect_pages, new_request_id
from ilf_client.aio.orchestrator import OrchestratorCalls
from ilf_client.models.runs import Run, RunSample, RunState, SampleFilter, SampleOrder, SamplePage, ShardExplanation
from ilf_client.models.specs import RunSpec


class AsyncRuns(OrchestratorCalls):
    """Create, watch, cancel and resume runs. A run's name is `runs/<id>`; the bare id is understood too."""

    async def create(
        self,
        spec: RunSpec,
        *,
        run_id: str = "",
        validate_only: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Run:
        """Checks a spec and its dataset, then starts the run.

        Args:
            spec: What to run.
            run_id: Lower-case letters, digits and dashes; empty lets the server choose.
            validate_only: Check and answer the resolved spec, start nothing.
            request_id: The same id is the same request; None makes a fresh one.
            timeout: Seconds; None takes the client's.
        """
        request = pb.CreateRunRequest(request_id=new_request_id(request_id), run_id=run_id, validate_only=validate_only)
        to_proto(spec, request.spec)
        return from_proto(await self._transport.call(self._stub.CreateRun, request, timeout), Run)

    async def get(self, name: str, *, timeout: float | None = None) -> Run:
        """One run."""
        request = pb.GetRunRequest(name=run_name(name))
        return from_proto(await self._transport.call(self._stub.GetRun, request, timeout), Run)

    async def list(
        self, *, states: Sequence[RunState] = (), text: str = "", timeout: float | None = None
    ) -> AsyncIterator[Run]:
        """Runs, the newest first.

        Args:
            states: Only those in one of these states; empty means all.
            text: Only those whose name or policy contains this; case is ignored.
            timeout: Seconds; None takes the client's.
        """
        wanted = [pb.RunState.Value(f"RUN_STATE_{state.name}") for state in states]

        async def fetch(token: str) -> pb.ListRunsResponse:
            request = pb.ListRunsRequest(page_token=token, states=wanted, text=text)
            return await self._transport.call(self._stub.ListRuns, request, timeout)

        async for run in collect_pages(fetch, "runs", Run):
            yield run

    async def watch(self, name: str, *, timeout: float | None = None) -> AsyncIterator[Run]:
        """The run now and at each change, until it has ended; a restart of the orchestrator goes unnoticed."""
        request = pb.WatchRunRequest(name=run_name(name))
        async for response in self._transport.watch(self._stub.WatchRun, request, timeout):
            yield from_proto(response.run, Run)

    async def cancel(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Run:
        """Stops a run, its finetune job too."""
        request = pb.CancelRunRequest(request_id=new_request_id(request_id), name=run_name(name))
        return from_proto(await self._transport.call(self._stub.CancelRun, request, timeout), Run)

    async def resume(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Run:
        """Continues a failed or cancelled run from its last finished shard, or refuses and says why."""
        request = pb.ResumeRunRequest(request_id=new_request_id(request_id), name=run_name(name))
        return from_proto(await self._transport.call(self._stub.ResumeRun, request, timeout), Run)

    async def explain(self, name: str, *, timeout: float | None = None) -> AsyncIterator[ShardExplanation]:
        """Why each shard was computed or reused."""

        async def fetch(token: str) -> pb.ExplainRunResponse:
            request = pb.ExplainRunRequest(name=run_name(name), page_token=token)
            return await self._transport.call(self._stub.ExplainRun, request, timeout)

        async for shard in collect_pages(fetch, "shards", ShardExplanation):
            yield shard

    async def samples(
        self, name: str, *, iteration: int, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[RunSample]:
        """The rows of one iteration, page after page as they are consumed."""

        async def fetch(token: str) -> pb.ListSamplesResponse:
            request = pb.ListSamplesRequest(
                parent=run_name(name), iteration=iteration, page_size=page_size, page_token=token
            )
            return await self._transport.call(self._stub.ListSamples, request, timeout)

        async for sample in collect_pages(fetch, "samples", RunSample):
            yield sample

    async def sample_page(
        self,
        name: str,
        *,
        iteration: int,
        where: SampleFilter | None = None,
        order_by: SampleOrder = SampleOrder.DATASET,
        descending: bool = False,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> SamplePage:
        """One page of an iteration's rows, filtered and sorted.

        Args:
            name: The run.
            iteration: From 1.
            where: Which rows; None takes all.
            order_by: What they are sorted by; rows without it come last.
            descending: The largest first.
            page_size: Rows at most; 0 lets the server choose.
            page_token: From the page before; the other arguments must be the same.
            timeout: Seconds; None takes the client's.
        """
        request = pb.ListSamplesRequest(
            parent=run_name(name),
            iteration=iteration,
            order_by=pb.SampleOrder.Value(f"SAMPLE_ORDER_{order_by.name}"),
            descending=descending,
            page_size=page_size,
            page_token=page_token,
        )
        if where is not None:
            to_proto(where, request.filter)
        return from_proto(await self._transport.call(self._stub.ListSamples, request, timeout), SamplePage)


def run_name(name: str) -> str:
    """`runs/<id>` from the name or the bare id."""
    return name if name.startswith("runs/") else f"runs/{name}"
