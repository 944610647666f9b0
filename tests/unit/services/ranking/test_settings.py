from __future__ import annotations

import json
from pathlib import Path

import pytest

from ilf_common.errors import IlfError, InvalidArgumentError
from ilf_common.settings import load_settings
from services.ranking.settings import RankingSettings
from services.ranking.wiring import build_catalog


def load(**variables: object) -> RankingSettings:
    environment = {
        f"ILF_RANKING__{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in variables.items()
    }
    return load_settings(RankingSettings, "ranking", environment)


def test_model_may_be_given_by_its_source_alone() -> None:
    settings = load(MODELS={"small": "path/to/model", "large": {"source": "org/large", "replicas": 2}})
    assert settings.models["small"].source == "path/to/model"
    assert settings.models["large"].replicas == 2
    assert build_catalog(settings).models == ("small", "large")


def test_own_judges_may_bring_a_template_or_name_a_shipped_one() -> None:
    template = {"text": "{candidate}?", "positive_answers": ["Yes"], "negative_answers": ["No"]}
    judges = [{"name": "mine", "template": template}, {"name": "theirs", "template": "instruct_rm_3", "model": "b"}]
    catalog = build_catalog(load(MODELS={"a": "x", "b": "y"}, JUDGES=judges))
    mine, theirs = catalog.for_ranking((), "", "ranker")
    assert (mine.model, mine.template.text) == ("a", "{candidate}?")
    assert (theirs.model, theirs.template.name) == ("b", "instruct_rm_3")


@pytest.mark.parametrize(
    "judges",
    [
        [{"name": "j", "model": "nowhere"}],
        [{"name": "j", "template": "instruct_rm_1"}, {"name": "j", "template": "instruct_rm_2"}],
        [{"name": "j", "template": "no_such_template"}],
        [{"name": "j", "template": {"text": "nothing", "positive_answers": ["Yes"], "negative_answers": ["No"]}}],
    ],
)
def test_judges_that_cannot_judge_are_refused_at_start(judges: list[object]) -> None:
    with pytest.raises(IlfError):
        build_catalog(load(MODELS={"a": "x"}, JUDGES=judges))


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="ILF_RANKING__RAY__ADRESS"):
        load(RAY__ADRESS="x")


def test_state_lies_under_one_folder_by_default() -> None:
    assert load().state_dir == Path(".ilf/ranking")
    assert load().server.port == 50052


def test_serve_may_choose_the_number_of_a_model_s_copies() -> None:
    scaling = {"max_replicas": 3, "idle_seconds": 5}
    model = {"source": "x", "autoscaling": scaling, "resources": {"judge": 0.5}}
    settings = load(MODELS={"a": model}, EMBEDDING={"autoscaling": {"min_replicas": 1}})
    chosen = settings.models["a"].autoscaling
    assert chosen is not None and (chosen.min_replicas, chosen.max_replicas) == (0, 3)
    assert settings.models["a"].resources == {"judge": 0.5}
    with pytest.raises(InvalidArgumentError, match="min_replicas"):
        load(MODELS={"a": {"source": "x", "autoscaling": {"min_replicas": 2}}})
