from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client.models.runs import RunState, SampleFilter, SampleOrder
from ilf_common.errors import InvalidArgumentError
from services.console.views import commands
from services.console.views.search import SIZES, SampleSearch, read_search

bounds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
lengths = st.none() | st.integers(0, 999_999_999)
searches = st.builds(
    SampleSearch,
    st.integers(0, 9),
    st.builds(
        SampleFilter,
        text=st.text(st.characters(codec="utf-8"), max_size=5),
        min_score=bounds,
        max_spread=bounds,
        min_length=lengths,
        failed=st.none() | st.booleans(),
        item_ids=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), max_size=2).map(tuple),
    ),
    st.sampled_from([order for order in SampleOrder if order is not SampleOrder.UNSPECIFIED]),
    st.booleans(),
    st.sampled_from(SIZES),
)


@given(searches)
def test_a_search_comes_back_from_its_address(search: SampleSearch) -> None:
    params = parse_qs(search.query(), keep_blank_values=True)
    given = {name: values[0] for name, values in params.items()}
    assert read_search(given, params.get("item", [])) == search


def test_the_page_begins_anew_unless_it_is_named() -> None:
    search = SampleSearch(iteration=1, page="abc")
    assert search.query() == "iteration=1"
    assert search.query(page="next") == "iteration=1&page=next"
    assert search.query(iteration=2) == "iteration=2"


def test_fields_that_a_form_sends_empty_are_no_conditions() -> None:
    names = ("iteration", "text", "min_score", "max_length", "failed", "order_by", "size")
    assert read_search(dict.fromkeys(names, ""), [""]) == SampleSearch()


def test_each_wrong_value_is_named_with_what_is_wanted() -> None:
    wrong = {"min_score": "nan", "max_spread": "1e999", "min_length": "1.5", "size": "11", "order_by": "luck"}
    with pytest.raises(InvalidArgumentError) as caught:
        read_search({**wrong, "text": "kept"})
    assert {violation.field for violation in caught.value.violations} == set(wrong)


def test_commands_say_the_same_in_words_that_a_shell_understands() -> None:
    where = SampleFilter(text="it's; rm -rf $HOME", min_score=-0.5, item_ids=("a b",))
    command = commands.list_samples("runs/a", 2, where, SampleOrder.SPREAD, True, 10)
    assert command == (
        "ilf runs samples a --iteration 2 --text 'it'\"'\"'s; rm -rf $HOME' --min-score=-0.5 --item 'a b' "
        "--order-by spread --descending --limit 10"
    )
    assert commands.list_runs([RunState.FAILED], "") == "ilf runs list --state failed"
    assert commands.compare("runs/a", 1, "runs/b", 2) == "ilf runs compare a b --iteration 1 2"
