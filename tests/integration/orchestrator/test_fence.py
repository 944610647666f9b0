from pathlib import Path

import pytest

from ilf_common.errors import FailedPreconditionError
from services.orchestrator.adapters.database import open_database
from services.orchestrator.adapters.fence import Fence


def url_of(database_url: str | None, folder: Path) -> str:
    if database_url is None:
        return f"sqlite:///{folder / 'state.sqlite'}"
    return database_url.replace("postgresql://", "postgresql+psycopg://")


def test_only_one_live_process_gets_through(tmp_path: Path, database_url: str | None) -> None:
    engine = open_database(url_of(database_url, tmp_path))
    with Fence(tmp_path, engine):
        with pytest.raises(FailedPreconditionError) as caught:
            Fence(tmp_path, engine).take()
        assert caught.value.reason == "EXECUTOR_TAKEN"
    with Fence(tmp_path, engine):
        pass
    engine.dispose()


def test_processes_on_two_machines_are_told_apart_by_their_database(tmp_path: Path, postgresql_url: str) -> None:
    engine = open_database(url_of(postgresql_url, tmp_path))
    with Fence(tmp_path / "one", engine), pytest.raises(FailedPreconditionError):
        Fence(tmp_path / "two", engine).take()
    with Fence(tmp_path / "two", engine):
        pass
    engine.dispose()
