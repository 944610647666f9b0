from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate, load_template


@given(st.text(), st.text())
def test_values_are_text_whatever_they_hold(context: str, feedback: str) -> None:
    template = PromptTemplate("t", "C: {context} F: {feedback}")
    assert template.render(context=context, feedback=feedback, candidate="unused") == f"C: {context} F: {feedback}"


def test_a_missing_value_and_an_unknown_placeholder_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown placeholders"):
        PromptTemplate("t", "{secret}")
    with pytest.raises(InvalidArgumentError, match="wants \\['feedback'\\]"):
        PromptTemplate("t", "{feedback}").render(context="c")
    with pytest.raises(InvalidArgumentError, match="empty"):
        PromptTemplate("t", " ")


def test_the_digest_follows_the_content_and_not_the_name() -> None:
    assert PromptTemplate("a", "{context}").digest == PromptTemplate("b", "{context}").digest
    assert PromptTemplate("a", "{context}").digest != PromptTemplate("a", "{context}", " ").digest


def test_a_template_file_is_read_with_its_answers(tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(
        "name: j\ntext: '{candidate}?'\ntarget_prefix: ' '\nanswers: {positive: [' Yes'], negative: [' No']}"
    )
    assert load_template(path) == PromptTemplate("j", "{candidate}?", " ", (" Yes",), (" No",))


@pytest.mark.parametrize("content", ["- a", "text: 3", "text: a\nextra: b", "text: [", "\xff"])
def test_a_file_that_is_no_template_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidArgumentError, match=r"bad\.yaml"):
        load_template(path)
