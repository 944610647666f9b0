from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ilf_client import Endpoints, FailedPreconditionError, InvalidArgumentError
from ilf_client.cli.addresses import artifact_store, endpoints
from ilf_client.stack.config import resolve
from ilf_client.stack.launch import Launcher, last_messages, stop_stack
from ilf_client.stack.ports import find_owner, is_free
from ilf_client.stack.processes import ProcessRecord, stop_processes
from ilf_client.stack.state import StackState, exclusive, read_state, write_state
from ilf_common.settings import SettingsBase, load_settings
from services.console.settings import ConsoleSettings
from services.finetune.settings import FinetuneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.ranking.settings import RankingSettings
from services.refinement.settings import RefinementSettings
from services.reward.settings import RewardSettings

TREES: dict[str, type[SettingsBase]] = {
    "refinement": RefinementSettings,
    "ranking": RankingSettings,
    "reward": RewardSettings,
    "finetune": FinetuneSettings,
    "orchestrator": OrchestratorSettings,
    "console": ConsoleSettings,
}
SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def process(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    return child


@pytest.mark.parametrize("service", TREES)
def test_every_service_understands_what_up_writes(service: str, tmp_path: Path) -> None:
    config = resolve(None, ["models.tiny=somewhere", f"{service}.server.port=6000"], tmp_path / "state", console=True)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({name: dict(section) for name, section in config.sections.items()}))
    settings = load_settings(TREES[service], service, {"ILF_CONFIG_FILE": str(file)})
    assert settings.server.port == 6000  # type: ignore[attr-defined]
    assert settings.state_dir == tmp_path / "state" / service  # type: ignore[attr-defined]


@pytest.mark.parametrize("service", TREES)
def test_the_ports_that_up_expects_are_those_of_the_services(service: str, tmp_path: Path) -> None:
    server = TREES[service]().server  # type: ignore[attr-defined]
    config = resolve(None, [], tmp_path, console=True)
    assert config.listens(service) == (server.host, server.port)


def test_shared_settings_go_to_all_and_ports_to_the_callers(tmp_path: Path) -> None:
    file = tmp_path / "ilf.yaml"
    file.write_text(
        "store: {root: s3://bucket/x}\nrefinement: {server: {port: 7001, host: 0.0.0.0}, models: {a: x}}\n"
        "finetune: {models: {b: y}}\n"
    )
    config = resolve(file, [], tmp_path)
    assert config.store_root == "s3://bucket/x"
    assert config.sections["orchestrator"]["store"] == {"root": "s3://bucket/x"}
    assert config.sections["orchestrator"]["refinement"] == {"address": "127.0.0.1:7001"}
    assert config.sections["reward"]["refinement"]["address"] == "127.0.0.1:7001"
    assert config.sections["finetune"]["models"] == {"a": "x", "b": "y"}
    assert config.endpoints.refinement == "127.0.0.1:7001"


def test_a_section_that_no_service_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'refinement'"):
        resolve(None, ["refinment.server.port=1"], tmp_path)
    with pytest.raises(InvalidArgumentError, match="a mapping is wanted"):
        resolve(None, ["ranking=3"], tmp_path)


def test_a_taken_port_is_told_with_its_owner(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        assert find_owner(port).startswith(f"pid {os.getpid()} (")
        # The first that is looked at, so that what else runs on this machine does not matter.
        launcher = Launcher(resolve(None, [f"refinement.server.port={port}"], tmp_path), lambda service, event: None)
        with pytest.raises(FailedPreconditionError, match=f"pid {os.getpid()}") as caught:
            launcher.start(wait_seconds=5)
    assert caught.value.reason == "PORT_IN_USE" and caught.value.metadata["service"] == "refinement"
    assert read_state(tmp_path) is None


def test_a_second_start_is_refused_while_something_runs(tmp_path: Path) -> None:
    child = process(SLEEPER)
    state = StackState({"ranking": ProcessRecord.of(child.pid)}, Endpoints(), "store")
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    with pytest.raises(FailedPreconditionError, match=f"pid {child.pid}") as caught:
        Launcher(resolve(None, [], tmp_path), lambda service, event: None).start(wait_seconds=5)
    assert caught.value.reason == "ALREADY_UP"
    assert stop_stack(tmp_path, 10) == (["ranking"], [])
    assert child.wait() == -signal.SIGTERM
    assert stop_stack(tmp_path, 10) == ([], [])


def test_what_does_not_end_in_time_is_killed() -> None:
    child = process(DEAF)
    record = ProcessRecord.of(child.pid)
    assert record.is_alive
    assert stop_processes([record], seconds=0.3) == [record]
    assert child.wait() == -signal.SIGKILL
    assert not record.is_alive


def test_a_process_that_came_later_under_the_same_id_is_left_alone() -> None:
    child = process(SLEEPER)
    stranger = ProcessRecord(child.pid, "1")
    assert not stranger.is_alive
    assert stop_processes([stranger], seconds=0.1) == []
    assert child.poll() is None
    child.kill()
    child.wait()


def test_two_commands_at_once_are_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(FailedPreconditionError) as caught, exclusive(tmp_path):
        pass
    assert caught.value.reason == "STACK_BUSY"


def test_an_unreadable_state_is_no_state(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]", '{"processes": 3}'):
        (tmp_path / "stack.json").write_text(text)
        assert read_state(tmp_path) is None


def test_clients_find_what_up_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILF_STATE_DIR", str(tmp_path))
    for name in ("ILF_SERVER", "ILF_STORE"):
        monkeypatch.delenv(name, raising=False)
    assert endpoints(None) == Endpoints()
    with pytest.raises(InvalidArgumentError, match="--store"):
        artifact_store(None)
    write_state(tmp_path, StackState({}, Endpoints.at("box"), str(tmp_path / "artifacts")))
    assert endpoints(None) == Endpoints.at("box")
    assert artifact_store(None).root == (tmp_path / "artifacts").as_uri()
    assert endpoints("other").ranking == "other:50052"
    monkeypatch.setenv("ILF_REWARD_ADDRESS", "elsewhere:1")
    assert endpoints(None) == Endpoints(reward="elsewhere:1")
    with pytest.raises(InvalidArgumentError, match="--store"):
        artifact_store(None, server="other")


def test_the_end_of_a_log_is_told_in_words(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("of an earlier start\n")
    start = log.stat().st_size
    with log.open("a") as stream:
        stream.write('{"severity": "ERROR", "message": "no model", "stack": "Traceback: x"}\nplain\n[1]\n')
    assert last_messages(log, start) == ["ERROR no model\nTraceback: x", "plain", "[1]"]
