from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ilf_common.errors import FailedPreconditionError
from services.refinement.adapters.policy_records import FILE_NAME, JsonPolicyRecords
from services.refinement.models import PolicyAlias, PolicyKind, PolicyRecords, PolicyVersion

RECORDS = PolicyRecords(
    versions=(
        PolicyVersion("r/it-1", PolicyKind.CHECKPOINT, "file:///c", "d1", datetime(2026, 1, 2, tzinfo=UTC), "", "sum"),
        PolicyVersion("r/it-2", PolicyKind.ADAPTER, "file:///a", "d2", datetime(2026, 1, 3, tzinfo=UTC), "r/it-1"),
    ),
    aliases=(PolicyAlias("live", "r/it-1", "base", "id"),),
)


def test_nothing_is_there_at_the_first_start(tmp_path: Path) -> None:
    assert JsonPolicyRecords(tmp_path / "new").load() == PolicyRecords()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    JsonPolicyRecords(tmp_path / "new").save(RECORDS)

    assert JsonPolicyRecords(tmp_path / "new").load() == RECORDS
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE_NAME]


def test_half_a_file_from_a_crash_is_never_read(tmp_path: Path) -> None:
    records = JsonPolicyRecords(tmp_path)
    records.save(RECORDS)
    (tmp_path / "policies.json.new").write_text("{")

    assert records.load() == RECORDS
    records.save(PolicyRecords())
    assert records.load() == PolicyRecords()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"versions": [{}], "aliases": []}', "\udcff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(FailedPreconditionError, match=r"policies\.json") as caught:
        JsonPolicyRecords(tmp_path).load()
    assert caught.value.reason == "STATE_UNREADABLE"
