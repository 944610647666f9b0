from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ilf_client import Client, InvalidArgumentError, RefineItem, RunState, UnavailableError
from tests.fakes.ilf_server import FakeServices


def test_calls_block_and_answer(blocking_client: Client) -> None:
    assert blocking_client.refine("toy", "c", "x0", "f").refinements[4].text == "x0 4"
    assert blocking_client.runs.get("toy").state is RunState.SUCCEEDED
    assert [policy.name for policy in blocking_client.policies.list()] == ["toy", "toy/it-1"]


def test_errors_are_those_of_the_server(blocking_client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="context"):
        blocking_client.refine("toy", "", "x0", "f")


def test_a_stream_may_be_left_early(blocking_client: Client, services: FakeServices) -> None:
    items = [RefineItem(str(index), "c", "x", "f") for index in range(100)]
    for outcome in blocking_client.batch_refine("toy", items):
        assert outcome.item_id == "0"
        break
    assert blocking_client.generate("toy", "still there").outputs[0].text == "still there 0"


def test_threads_share_a_client(blocking_client: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        texts = pool.map(lambda k: blocking_client.generate("toy", str(k)).outputs[0].text, range(20))
        assert list(texts) == [f"{k} 0" for k in range(20)]


def test_a_repeat_keeps_its_request_id(blocking_client: Client, services: FakeServices) -> None:
    services.failures["CancelRun"] = [UnavailableError("restarting")]
    assert blocking_client.runs.cancel("toy").state is RunState.CANCELLED
    ids = [request.request_id for request in services.calls["CancelRun"]]
    assert len(ids) == 2 and len(set(ids)) == 1


def test_a_closed_client_says_so(server_address: str) -> None:
    client = Client()
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.runs.get("toy")
