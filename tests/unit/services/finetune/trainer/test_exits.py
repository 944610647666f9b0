"""What the exit codes of trainer processes mean for their pod."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.finetune.trainer.exits import EXITS_VARIABLE, ProcessExit, read_exits, recorded, verdict


@pytest.mark.parametrize(
    ("launched", "codes", "expected"),
    [
        (0, [0], 0),
        (1, [10, 76], 10),
        (1, [1, 76, None], 1),
        (1, [75, 76, None], 75),
        (1, [76, None], 76),
        (1, [None, 0], 137),
        (-9, [None], 137),
        # Nobody got past the rendezvous: a peer is missing, which is nobody's fault here.
        (1, [], 76),
        (2, [], 2),
    ],
)
def test_a_pods_exit_code_says_whether_an_attempt_was_used_up(
    launched: int, codes: list[int | None], expected: int
) -> None:
    assert verdict(launched, [ProcessExit(7, code) for code in codes]) == expected


def test_processes_write_down_that_they_began_and_how_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXITS_VARIABLE, str(tmp_path))
    with recorded() as code:
        assert read_exits(tmp_path) == [ProcessExit(os.getpid(), None)]
        code.value = 75
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(KeyError), recorded():
        raise KeyError
    assert [one.code for one in read_exits(tmp_path)] == [75, 1]
