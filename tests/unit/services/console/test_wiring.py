"""The console's process: settings from the environment, its port, its address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from ilf_common.settings import load_settings
from services.console.app import build_app
from services.console.settings import ConsoleSettings, HttpSettings, SessionSettings
from services.console.wiring import listen, run, sign_in_address
from tests.fakes.console_client import FakeClient
from tests.unit.services.console.conftest import Open


def test_settings_come_from_the_environment() -> None:
    settings = load_settings(
        ConsoleSettings,
        "console",
        {
            "ILF_CONSOLE__SERVER__URL": "https://ilf.example.org/",
            "ILF_CONSOLE__SERVICES__ORCHESTRATOR": "orchestrator:50055",
            "ILF_CONSOLE__OIDC": '{"issuer": "https://id.example.org", "client_id": "ilf", "engineers": ["ml"]}',
        },
    )
    assert settings.url == "https://ilf.example.org"
    assert settings.services.endpoints.orchestrator == "orchestrator:50055"
    assert settings.services.endpoints.ranking == "127.0.0.1:50052"
    assert settings.oidc is not None and settings.oidc.engineers == ("ml",)
    assert sign_in_address(settings) == "https://ilf.example.org/login"


def test_a_setting_that_is_misspelt_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="ILF_CONSOLE__SERVICES__ORCHESTRA"):
        load_settings(ConsoleSettings, "console", {"ILF_CONSOLE__SERVICES__ORCHESTRA": "x:1"})


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPreconditionError, match=f"127.0.0.1:{port}") as refused:
            run(ConsoleSettings(server=HttpSettings(port=port), state_dir=tmp_path))
    assert refused.value.reason == "PORT_IN_USE"


def test_no_answer_waits_for_an_acknowledgement() -> None:
    with listen(HttpSettings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize(("content", "reason"), [(None, "FILE_UNREADABLE"), ("short", "KEY_TOO_SHORT")])
def test_a_key_that_protects_nothing_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content, encoding="utf-8")
    settings = ConsoleSettings(state_dir=tmp_path, session=SessionSettings(key_file=tmp_path / "key"))
    with pytest.raises(FailedPreconditionError) as refused:
        build_app(settings, FakeClient)  # type: ignore[arg-type]
    assert refused.value.reason == reason


def test_health_needs_no_sign_in_and_no_service(open_browser: Open) -> None:
    assert open_browser(role=None).get("/healthz").text == "ok\n"
