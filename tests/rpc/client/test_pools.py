"""Pools as people see them: by the SDK, and by `ilf pools`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator

from ilf_client import AsyncClient, Client, Pool
from ilf_client.cli import pools as command
from ilf_client.cli.main import main
from tests.fakes.ilf_server import FakeServices

AWAKE = orchestrator.Pool(
    name="refinement",
    want=2,
    have=1,
    why="120 rows of refine (run a) at 2 items/s a replica",
    since=Timestamp(seconds=1_700_000_000),
    backlog=120,
    items_per_second=2.0,
    rate_measured=True,
    start_seconds=60.0,
    front_answers=True,
)
LOST = orchestrator.Pool(name="ranking", why="nobody needs it", items_per_second=1.0)


@pytest.fixture
def scaled(services: FakeServices) -> FakeServices:
    services.pools = [AWAKE, LOST]
    return services


def ilf(server_address: str, folder: Path, *arguments: str) -> Result:
    environment = {"ILF_SERVER": server_address, "ILF_STATE_DIR": str(folder / ".ilf")}
    return CliRunner(env=environment).invoke(main, arguments)


async def test_the_sdk_answers_them(scaled: FakeServices, client: AsyncClient) -> None:
    found = [pool async for pool in client.pools()]
    assert [type(pool) for pool in found] == [Pool, Pool]
    assert (found[0].want, found[0].have, found[0].rate_measured) == (2, 1, True)
    assert found[0].since is not None and found[0].since.timestamp() == 1_700_000_000


def test_the_blocking_client_too(scaled: FakeServices, blocking_client: Client) -> None:
    assert [pool.name for pool in blocking_client.pools()] == ["refinement", "ranking"]


def test_people_see_a_table_with_guesses_and_silence_marked(
    scaled: FakeServices, server_address: str, tmp_path: Path
) -> None:
    lines = ilf(server_address, tmp_path, "pools").output.splitlines()
    assert lines[0].split() == ["POOL", "WANT", "HAVE", "BACKLOG", "ITEMS/S", "START", "SINCE", "WHY"]
    assert lines[1].split()[:6] == ["refinement", "2", "1", "120", "2", "60s?"]
    assert lines[1].endswith("120 rows of refine (run a) at 2 items/s a replica")
    assert lines[2].split()[:5] == ["ranking", "0", "?", "0", "1?"]


def test_programs_get_json(scaled: FakeServices, server_address: str, tmp_path: Path) -> None:
    found = json.loads(ilf(server_address, tmp_path, "pools", "-o", "json").output)
    assert [(pool["name"], pool["want"]) for pool in found] == [("refinement", 2), ("ranking", 0)]


def test_a_server_that_scales_nothing_says_so(services: FakeServices, server_address: str, tmp_path: Path) -> None:
    assert "scales no pools" in ilf(server_address, tmp_path, "pools").output


def test_watching_prints_a_line_a_change(
    scaled: FakeServices, server_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            scaled.pools[0] = orchestrator.Pool(name="refinement", want=0, have=1, why="nobody needs it")
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    result = ilf(server_address, tmp_path, "pools", "--watch")
    assert result.exit_code == 130
    assert [line[9:] for line in result.output.splitlines()[3:]] == ["refinement: wants 0, has 1; nobody needs it"]
