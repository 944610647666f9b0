from __future__ import annotations

import json
import logging

import pytest

from ilf_common.logging import JsonFormatter
from ilf_common.rpc.context import CallContext, enter_call


def line(message: str, **extra: object) -> dict[str, object]:
    record = logging.getLogger("ilf.test").makeRecord(
        "ilf.test", logging.WARNING, __file__, 1, message, (), None, extra=extra
    )
    return dict(json.loads(JsonFormatter("ranking").format(record)))


def test_a_line_is_one_json_object_with_the_record_s_own_fields() -> None:
    written = line("two\nlines", code="OK", duration_ms=1.5)
    assert written["message"] == "two\nlines" and written["code"] == "OK" and written["duration_ms"] == 1.5
    assert (written["severity"], written["component"], written["logger"]) == ("WARNING", "ranking", "ilf.test")
    assert "request_id" not in written


async def test_a_line_written_while_answering_names_the_call() -> None:
    enter_call(CallContext("ranking", "ilf.ranking.v1.RankingService", "Rank", "id-1"))
    written = line("x")
    assert (written["service"], written["rpc"], written["request_id"]) == (
        "ilf.ranking.v1.RankingService",
        "Rank",
        "id-1",
    )


def test_an_exception_is_logged_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("why")
    except KeyError:
        logging.getLogger("ilf.test").exception("failed")
    written = json.loads(JsonFormatter("ranking").format(caplog.records[-1]))
    assert "KeyError: 'why'" in written["stack"]
