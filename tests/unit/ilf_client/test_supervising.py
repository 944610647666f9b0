from __future__ import annotations

from pathlib import Path

import click
import pytest

from ilf_client.cli.stack import _supervise


class Mortal:
    """A launcher whose ranking service has died each time that it is looked at; Ctrl-C comes after `deaths`."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.spawned: list[str] = []
        self.waited: list[str] = []
        self.stopped = False

    def exited(self) -> dict[str, int]:
        if len(self.spawned) == self.deaths:
            raise KeyboardInterrupt
        return {"ranking": -9}

    def spawn(self, service: str) -> None:
        self.spawned.append(service)

    def wait_until_serving(self, service: str, seconds: float) -> None:
        self.waited.append(service)

    def stop(self, seconds: float) -> None:
        self.stopped = True

    def log_file(self, service: str) -> Path:
        return Path(f"{service}.log")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilf_client.cli.stack.time.sleep", lambda seconds: None)


def test_a_dead_service_is_started_again_until_the_interrupt() -> None:
    launcher = Mortal(deaths=3)
    _supervise(launcher, 1.0)  # type: ignore[arg-type]
    assert launcher.spawned == launcher.waited == ["ranking"] * 3
    assert launcher.stopped


def test_a_service_that_dies_too_often_ends_all() -> None:
    launcher = Mortal(deaths=100)
    with pytest.raises(click.exceptions.Exit) as caught:
        _supervise(launcher, 1.0)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    assert len(launcher.spawned) == 5
    assert launcher.stopped
