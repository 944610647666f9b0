from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ilf_client.config import build, plain
from ilf_client.models.specs import RunSpec
from ilf_common.errors import InvalidArgumentError
from services.console.views.spec_form import Group, as_yaml, read_form, read_text, spec_form, unplaced, without_defaults

EXAMPLE = Path(__file__).parents[5] / "examples" / "summarization" / "run.yaml"


def values(group: Group) -> dict[str, str]:
    """What a browser would send of the form."""
    own = {entry.path: entry.value for entry in group.inputs}
    return own | {path: value for inner in group.groups for path, value in values(inner).items()}


def test_a_run_of_a_file_comes_back_from_its_form() -> None:
    data = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    data["generate"]["template"], data["refine"]["template"] = "policy", {"name": "mine", "text": "{context}\n"}
    data["evaluate"]["judges"] = [{"name": "one", "model": "m", "template": "judge"}]
    back = read_form(values(spec_form(data, {})))
    assert build(RunSpec, back, folder=None) == build(RunSpec, data, folder=None)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=3))
def test_lists_of_texts_come_back(texts: list[str]) -> None:
    texts = [*texts, "\n", " edge "]
    back = read_form(values(spec_form({"refine": {"sampling": {"stop": texts}}}, {})))
    assert back["refine"]["sampling"]["stop"] == texts


def test_every_field_of_the_schema_is_in_the_form_once() -> None:
    paths = list(values(spec_form({}, {})))
    assert len(paths) == len(set(paths))
    assert {"policy", "rank.ranker.judges", "finetune.hyperparameters.lora.rank", "people.guidelines"} <= set(paths)
    assert "preview_rows" not in paths, "it is asked for beside the button"


def test_problems_stand_at_their_field_or_at_the_one_that_holds_them() -> None:
    wrong = {"policy": "is missing", "rank.ranker.judges[0].model": "is unknown", "dataset": "is no mapping"}
    form = spec_form({}, wrong)
    found: dict[str, str] = {}

    def collect(group: Group) -> None:
        found.update({entry.path: entry.wrong for entry in group.inputs if entry.wrong})
        for inner in group.groups:
            collect(inner)

    collect(form)
    assert found == {"policy": "is missing", "rank.ranker.judges": "is unknown"}
    assert unplaced(form, wrong) == {"dataset": "is no mapping"}


def test_what_a_field_holds_anyway_is_left_out() -> None:
    spec = RunSpec(iterations=2, policy="tiny", preview_rows=9)
    assert without_defaults(plain(spec)) == {"iterations": 2, "policy": "tiny"}


@pytest.mark.parametrize("text", ["a: *b", "&a [*a]", "a: [", "!!python/name:os.system", "a: \x07", "- " * 2_000])
def test_yaml_that_is_none_or_dangerous_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_text(text)
    assert caught.value.violations[0].field == "yaml"


def test_yaml_is_written_for_people() -> None:
    data: dict[str, Any] = {"policy": "tiny", "feedback": {"nothing_to_change": ["schön"]}}
    assert as_yaml(data) == "policy: tiny\nfeedback:\n  nothing_to_change:\n  - schön\n"
    assert as_yaml({}) == ""
