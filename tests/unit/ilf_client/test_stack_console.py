"""The console beside the services that `ilf up` starts: what it is told, and that nothing else falls with it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from ilf_client import Endpoints
from ilf_client.cli.main import main
from ilf_client.cli.stack import _supervise
from ilf_client.diagnosis import Verdict, diagnose
from ilf_client.stack import launch
from ilf_client.stack.config import resolve
from ilf_client.stack.console import ConsolePlace
from ilf_client.stack.launch import Launcher, stop_stack
from ilf_client.stack.processes import ProcessRecord
from ilf_client.stack.state import StackState, read_state, write_state
from tests.support import free_ports


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ilf up` without the services, so that only the console is started."""
    monkeypatch.setattr(launch, "SERVICES", ())


@pytest.fixture
def web() -> Iterator[str]:
    """Address of a server that says it is well at /healthz."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def told(folder: Path, *overrides: str) -> tuple[Launcher, list[tuple[str, str]]]:
    events: list[tuple[str, str]] = []
    config = resolve(None, overrides, folder, console=True)
    return Launcher(config, lambda service, event: events.append((service, event))), events


def test_the_console_is_told_where_the_services_are_and_only_where_it_is_wanted(tmp_path: Path) -> None:
    overrides = ["ranking.server.port=7002", "console.services.reward=elsewhere:1", "console.server.host=0.0.0.0"]
    config = resolve(None, overrides, tmp_path, console=True)
    assert config.sections["console"]["services"]["ranking"] == "127.0.0.1:7002"
    assert config.sections["console"]["services"]["reward"] == "elsewhere:1"
    token = str(tmp_path / "console" / "token")
    assert config.console == ConsolePlace("127.0.0.1:50070", "http://127.0.0.1:50070", token)
    without = resolve(None, overrides, tmp_path)
    assert without.console is None and "console" not in without.sections


def test_people_who_sign_in_otherwise_get_no_token(tmp_path: Path) -> None:
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "token").write_text("old")
    overrides = ["console.oidc.issuer=https://id.example.org", "console.server.url=https://ilf.example.org"]
    place = resolve(None, overrides, tmp_path, console=True).console
    assert place is not None and place.sign_in_url == "https://ilf.example.org/"


def test_a_console_that_serves_is_told_by_its_health_page(web: str) -> None:
    (nobody,) = free_ports(1)
    assert ConsolePlace(web, f"http://{web}", None).answers()
    assert not ConsolePlace(f"127.0.0.1:{nobody}", "", None).answers()


@pytest.mark.usefixtures("alone")
def test_the_console_starts_with_the_others_and_ends_with_them(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    launcher, events = told(tmp_path, f"console.server.port={port}")
    state = launcher.start(30)
    try:
        assert events == [("console", "starting"), ("console", "serving")]
        assert state.alive == ["console"] and state == read_state(tmp_path)
        assert state.console is not None and state.console.answers()
        assert state.console.sign_in_url.startswith(f"http://127.0.0.1:{port}/login?token=")
    finally:
        assert stop_stack(tmp_path, 10) == (["console"], [])


@pytest.mark.usefixtures("alone")
def test_a_taken_port_leaves_the_console_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        launcher, events = told(tmp_path, f"console.server.port={port}")
        assert launcher.start(5).console is None
    ((service, event),) = events
    assert service == "console" and event.startswith(f"left out: port {port} is taken by pid ")
    assert "--set console.server.port=PORT" in event


@pytest.mark.usefixtures("alone")
def test_a_console_that_does_not_start_is_left_out_with_its_reason(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    launcher, events = told(tmp_path, f"console.server.port={port}", "console.nonsense=1")
    state = launcher.start(30)
    assert (state.processes, state.console) == ({}, None)
    event = events[-1][1]
    assert event.startswith("left out: it ended with exit code 2.") and "console.nonsense" in event


class MortalConsole:
    """A launcher whose console dies each time that it is looked at, until it is left out."""

    def __init__(self) -> None:
        self.spawned: list[str] = []
        self.left_out: list[str] = []

    def exited(self) -> dict[str, int]:
        if self.left_out:
            raise KeyboardInterrupt
        return {"console": 1}

    def spawn(self, service: str) -> None:
        self.spawned.append(service)

    def leave_out(self, service: str, why: str) -> None:
        self.left_out.append(why)

    def stop(self, seconds: float) -> None:
        pass

    def log_file(self, service: str) -> Path:
        return Path(f"{service}.log")


def test_a_console_that_dies_too_often_is_given_up_and_the_services_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilf_client.cli.stack.time.sleep", lambda seconds: None)
    launcher = MortalConsole()
    _supervise(launcher, 1.0)  # type: ignore[arg-type]
    assert launcher.spawned == ["console"] * 5
    assert launcher.left_out == ["it dies too often; its log: console.log"]


def write_running_console(folder: Path, address: str) -> None:
    """As if this process were a console that `ilf up` has started."""
    (folder / "token").write_text("secret\n")
    place = ConsolePlace(address, f"http://{address}", str(folder / "token"))
    write_state(folder, StackState({"console": ProcessRecord.of(os.getpid())}, Endpoints(), "store", place))


def test_the_command_opens_the_console_signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    write_running_console(tmp_path, "127.0.0.1:7")
    url = "http://127.0.0.1:7/login?token=secret"
    done = CliRunner().invoke(main, ["console", "--state-dir", str(tmp_path)])
    assert (done.exit_code, done.output, opened) == (0, f"{url}\n", [url])
    done = CliRunner().invoke(main, ["console", "--no-open", "--state-dir", str(tmp_path), "-o", "json"])
    assert json.loads(done.output) == {"url": url, "opened": False}
    assert opened == [url]


def test_the_command_says_what_to_do_where_no_console_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["console", "--state-dir", str(tmp_path)])
    assert done.exit_code == 5
    assert "ilf up" in done.output and "CONSOLE_DOWN" in done.output


def test_the_doctor_looks_at_the_console_and_does_without(web: str, tmp_path: Path) -> None:
    write_running_console(tmp_path, web)
    assert {finding.subject: finding for finding in diagnose(None, tmp_path)}["console"].text == f"serves at {web}"
    (nobody,) = free_ports(1)
    write_running_console(tmp_path, f"127.0.0.1:{nobody}")
    finding = {finding.subject: finding for finding in diagnose(None, tmp_path)}["console"]
    assert finding.verdict is Verdict.WARNING and "logs/console.log" in finding.mend
