from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_client import (
    FeedbackSource,
    FeedbackStage,
    FinetuneStage,
    GenerateStage,
    Hyperparameters,
    InvalidArgumentError,
    JudgeSpec,
    LoraSpec,
    PromptTemplate,
    RankerSpec,
    RankStage,
    RunSpec,
    SamplingParams,
    Schedule,
    SelectMethod,
    SelectStage,
)
from ilf_client.config import apply_overrides, build, plain, read_yaml


def spec_of(data: dict[str, object], folder: Path = Path()) -> RunSpec:
    return build(RunSpec, data, folder=folder)


def violations_of(data: dict[str, object], folder: Path = Path()) -> dict[str, str]:
    with pytest.raises(InvalidArgumentError) as caught:
        spec_of(data, folder)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_keys_are_field_names_and_enums_their_short_names() -> None:
    spec = spec_of(
        {
            "schedule": "continue",
            "select": {"method": "top_k", "k": 2},
            "feedback": {"source": "PEOPLE", "lease": "15m", "nothing_to_change": ["fine"]},
            "rank": {"ranker": "length"},
            "max_bad_row_share": 0,
        }
    )
    assert spec.schedule is Schedule.CONTINUE
    assert spec.select == SelectStage(SelectMethod.TOP_K, k=2)
    assert spec.feedback.source is FeedbackSource.PEOPLE
    assert spec.feedback.lease == timedelta(minutes=15)
    assert spec.rank.ranker == RankerSpec(name="length")
    assert spec.max_bad_row_share == 0.0


def test_numbers_that_yaml_reads_as_texts_are_understood() -> None:
    spec = spec_of({"finetune": {"hyperparameters": {"learning_rate": "1e-5", "epochs": 2, "batch_size": 8.0}}})
    assert spec.finetune.hyperparameters == Hyperparameters(learning_rate=1e-5, epochs=2.0, batch_size=8)


def test_every_wrong_key_and_value_is_named_at_once() -> None:
    found = violations_of(
        {
            "itterations": 2,
            "schedule": "unoin",
            "refine": {"sampling": {"temprature": 1, "n": "five"}},
            "reuse_contexts": "yes please",
            "rank": 3,
            "finetune": {"hyperparameters": {"epochs": float("nan")}},
            "evaluate": {"judges": {"name": "a"}},
            "feedback": {"lease": "soon"},
        }
    )
    assert found["itterations"] == "is unknown; did you mean 'iterations'?"
    assert found["schedule"] == "is 'unoin'; did you mean 'union'?"
    assert found["refine.sampling.temprature"] == "is unknown; did you mean 'temperature'?"
    assert found["refine.sampling.n"] == "is 'five', a whole number is wanted"
    assert found["reuse_contexts"] == "is 'yes please', true or false is wanted"
    assert found["rank"] == "is 3, a mapping is wanted"
    assert "finite" in found["finetune.hyperparameters.epochs"]
    assert "a list is wanted" in found["evaluate.judges"]
    assert "15m" in found["feedback.lease"]
    assert len(found) == 9


def test_what_an_element_lacks_is_named() -> None:
    assert violations_of({"rank": {"ranker": {"judges": [{"model": "m"}]}}}) == {"rank.ranker.judges[0]": "needs name"}


def test_templates_are_files_names_or_content(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text('name: mine\ntext: "{context}"\nanswers: {positive: [" Yes"]}\n')
    spec = spec_of(
        {
            "generate": {"template": "mine.yaml"},
            "refine": {"template": "refine_with_feedback"},
            "feedback": {"template": {"name": "own", "text": "{context}:"}},
        },
        tmp_path,
    )
    assert spec.generate.template == PromptTemplate("mine", "{context}", positive_answers=(" Yes",))
    assert spec.refine.template == "refine_with_feedback"
    assert spec.feedback.template == PromptTemplate("own", "{context}:")


@pytest.mark.parametrize(
    ("template", "description"),
    [
        ("missing.yaml", "there is no file"),
        ({"text": "{contxt}"}, "unknown placeholders"),
        ({"text": ""}, "is empty"),
        ({"txt": "x"}, "did you mean 'text'?"),
        (3, "a template's path, name or mapping is wanted"),
    ],
)
def test_a_wrong_template_is_told(template: object, description: str) -> None:
    (text,) = violations_of({"generate": {"template": template}}).values()
    assert description in text


def test_overrides_are_typed_by_yaml_and_reach_into_lists() -> None:
    data = {"iterations": 1, "rank": {"ranker": {"judges": [{"name": "a"}]}}}
    result = apply_overrides(
        data,
        [
            "iterations=3",
            "rank.ranker.judges.0.model=m",
            "select.method=argmax",
            "refine.sampling={n: 2}",
            "policy=1.5",
        ],
    )
    assert result["iterations"] == 3
    assert result["rank"]["ranker"]["judges"] == [{"name": "a", "model": "m"}]
    assert result["select"] == {"method": "argmax"}
    assert result["refine"] == {"sampling": {"n": 2}}
    assert data["iterations"] == 1 and data["rank"] == {"ranker": {"judges": [{"name": "a"}]}}


@pytest.mark.parametrize("override", ["iterations", "=3", "iterations.deep=3", "judges.4=x", "policy=[1"])
def test_an_override_that_cannot_work_is_refused(override: str) -> None:
    with pytest.raises(InvalidArgumentError):
        apply_overrides({"iterations": 1, "judges": [1]}, [override])


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for content in (b"- a", b"a: [", b"\xff\xfe\x00a"):
        file.write_bytes(content)
        with pytest.raises(InvalidArgumentError, match=r"run\.yaml"):
            read_yaml(file)
    file.write_bytes(b"")
    assert read_yaml(file) == {}


def test_the_resolved_config_builds_the_same_spec() -> None:
    spec = RunSpec(
        iterations=2,
        policy="toy",
        generate=GenerateStage(template=PromptTemplate("own", "{context}", positive_answers=(" A",))),
        feedback=FeedbackStage(FeedbackSource.CRITIC, critic="toy", template="critic", lease=timedelta(seconds=90)),
        rank=RankStage(RankerSpec(judges=(JudgeSpec("a", "m", "prefix_1"),))),
        finetune=FinetuneStage(Hyperparameters(learning_rate=1e-5, lora=LoraSpec(rank=4, target_modules=("q",)))),
    )
    assert spec_of(plain(spec)) == spec


@given(
    st.builds(
        SamplingParams,
        n=st.none() | st.integers(1, 1024),
        temperature=st.none() | st.floats(0, 10),
        seed=st.none() | st.integers(0, 2**63 - 1),
        stop=st.lists(st.text(max_size=5)).map(tuple),
    )
)
def test_sampling_survives_the_config(sampling: SamplingParams) -> None:
    assert build(SamplingParams, plain(sampling), folder=Path()) == sampling


def test_data_from_elsewhere_read_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text('name: mine\ntext: "{context}"\n')
    monkeypatch.chdir(tmp_path)
    assert build(RunSpec, {"generate": {"template": "mine"}}, folder=None).generate.template == "mine"
    with pytest.raises(InvalidArgumentError, match=r"'mine\.yaml' is a file"):
        build(RunSpec, {"generate": {"template": "mine.yaml"}}, folder=None)
