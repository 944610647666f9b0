"""Templates survive the wire whole."""

from hypothesis import given
from hypothesis import strategies as st

from ilf_common.rpc.templates import template_from_proto, template_to_proto
from ilf_common.templates import PromptTemplate

TEXT = st.text(st.characters(exclude_characters="{}", codec="utf-8"))
ANSWERS = st.lists(TEXT).map(tuple)


@given(TEXT, TEXT, TEXT, ANSWERS, ANSWERS)
def test_a_template_is_the_same_there_and_back(
    name: str, text: str, prefix: str, positive: tuple[str, ...], negative: tuple[str, ...]
) -> None:
    template = PromptTemplate(name, f"{text} {{context}}", prefix, positive, negative)
    assert template_from_proto(template_to_proto(template)) == template
