"""Feedback from files: what is read, what is refused, and that a table gives back what was typed."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client.answer_files import cell, read_answers
from ilf_common.errors import InvalidArgumentError

ANN = {"item_id": "a", "iteration": 1, "annotator": "ann", "feedback": "Shorter."}
BOB = {"item_id": "b", "iteration": 2, "annotator": " bob ", "feedback": 'Kinder,\n"please".', "context": "c"}
UNWRITTEN = {"item_id": "c", "iteration": 1, "annotator": "", "feedback": " "}
READ = {"ann": {(1, "a"): "Shorter."}, "bob": {(2, "b"): 'Kinder,\n"please".'}}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(*rows: dict[str, object]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["item_id", "context", "iteration", "annotator", "feedback"])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
def test_rows_with_feedback_are_read_and_others_left_out(mark: bytes) -> None:
    assert read_answers("given.jsonl", mark + lines(ANN, BOB, UNWRITTEN) + b"\n") == READ
    assert read_answers("GIVEN.CSV", mark + table(ANN, BOB, UNWRITTEN)) == READ


def test_records_of_argilla_are_read_by_user() -> None:
    response = {"value": "Shorter.", "user_id": "7f3a"}
    record = {"metadata": {"iteration": 1, "item_id": "a"}, "responses": {"feedback": [response]}}
    assert read_answers("records.json", json.dumps([record]).encode()) == {"7f3a": {(1, "a"): "Shorter."}}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1))
def test_a_table_gives_back_what_was_typed(text: str) -> None:
    read = read_answers("given.csv", table({**ANN, "feedback": cell(text)}))
    assert read == ({"ann": {(1, "a"): text}} if text.strip() else {})


@pytest.mark.parametrize("text", ["=1+1", "-1", "@a", "'=1", "''+1", "\t1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("given.xlsx", b"", "none of .json, .jsonl, .csv"),
        ("given.csv", b"\xff\xfe", "byte 0 is no UTF-8"),
        ("given.csv", b'item_id,iteration,annotator,feedback\na,1,ann,"open', "is no CSV"),
        ("given.csv", b"item_id;iteration;annotator;feedback\na;1;ann;Shorter.\n", "row 1 has not all of item_id"),
        ("given.jsonl", lines(ANN) + b"{", "line 2 is no JSON"),
        ("given.jsonl", b"[" * 100_000, "line 1 is no JSON"),
        ("given.jsonl", lines(ANN, {**ANN, "iteration": "first"}), "row 2 has not all of"),
        ("given.jsonl", lines([1]), "row 1 has not all of"),
        ("given.jsonl", lines({**ANN, "feedback": 3}), "must be texts"),
        ("given.jsonl", lines({**ANN, "annotator": ""}), "no annotator"),
        ("records.json", b"[" * 100_000, "is no JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(name: str, content: bytes, told: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_answers(name, content)
    (violation,) = caught.value.violations
    assert told in violation.description
