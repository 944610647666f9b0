"""What the chart writes into /etc/ilf/config.yaml is what the services read: nothing unknown, nothing missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.ilf import values_schema
from ilf_common.front.settings import FrontSettings
from ilf_common.settings import CONFIG_FILE_VARIABLE, SettingsBase, load_settings
from services.console.settings import ConsoleSettings
from services.finetune.settings import FinetuneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.ranking.settings import RankingSettings
from services.refinement.settings import RefinementSettings
from services.reward.settings import RewardSettings
from tests.cluster.chart import CI, named, needs_helm, render, values_file

pytestmark = needs_helm

SECTIONS: dict[str, tuple[str, type[SettingsBase]]] = {
    "refinement-front": ("refinement_front", FrontSettings),
    "refinement-worker": ("refinement", RefinementSettings),
    "ranking-front": ("ranking_front", FrontSettings),
    "ranking-worker": ("ranking", RankingSettings),
    "reward-front": ("reward_front", FrontSettings),
    "reward-worker": ("reward", RewardSettings),
    "finetune": ("finetune", FinetuneSettings),
    "orchestrator": ("orchestrator", OrchestratorSettings),
    "console": ("console", ConsoleSettings),
}


def settings(objects: list[dict[str, Any]], component: str, folder: Path) -> Any:
    """The settings that a component's process would have."""
    section, model = SECTIONS[component]
    file = folder / f"{component}.yaml"
    file.write_text(named(objects, "ConfigMap", f"ilf-{component}")["data"]["config.yaml"], encoding="utf-8")
    assert list(yaml.safe_load(file.read_text())) == [section]
    return load_settings(model, section, {CONFIG_FILE_VARIABLE: str(file)})


@pytest.mark.parametrize("values", [None, *CI])
@pytest.mark.parametrize("apis", [(), ("keda.sh/v1alpha1", "ray.io/v1", "kueue.x-k8s.io/v1beta2")])
def test_every_service_takes_its_file(values: str | None, apis: tuple[str, ...], tmp_path: Path) -> None:
    objects = render(*(["-f", str(values_file(values))] if values else []), apis=apis)
    for component in SECTIONS:
        settings(objects, component, tmp_path)


def test_what_values_say_arrives(tmp_path: Path) -> None:
    objects = render("-f", str(values_file("gpu")), apis=("keda.sh/v1alpha1", "kueue.x-k8s.io/v1beta2"))
    orchestrator = settings(objects, "orchestrator", tmp_path)
    assert {name: pool.max_replicas for name, pool in orchestrator.pools.items()} == {
        "refinement": 3,
        "ranking": 4,
        "reward": 1,
    }
    assert orchestrator.pools["refinement"].front.address == orchestrator.refinement.address == "ilf-refinement:50051"
    assert orchestrator.scaler.port == 50065
    assert orchestrator.scaler.tls_client_ca_file and orchestrator.scaler.token_file is None
    assert settings(objects, "refinement-worker", tmp_path).engine.tensor_parallel_size == 2
    front = settings(objects, "refinement-front", tmp_path)
    assert front.workers.address == "ilf-refinement-workers.default.svc.cluster.local:50051"
    assert front.workers.token_file == front.server.token_file == Path("/etc/ilf/token/token")
    kubernetes = settings(objects, "finetune", tmp_path).kubernetes
    assert (kubernetes.nodes, kubernetes.gpus, kubernetes.queue) == (2, 4, "ilf-training")
    assert kubernetes.priority_class == "default-ilf-training"


def test_the_console_shows_what_a_client_shows_and_keeps_its_secrets(tmp_path: Path) -> None:
    objects = render("-f", str(values_file("external")))
    console = settings(objects, "console", tmp_path)
    assert console.services.endpoints.finetune == "ilf-finetune:50054"
    assert console.services.security.token_file == Path("/etc/ilf/token/token")
    assert (console.url, console.server.is_https) == ("https://console.example.com", True)
    assert console.oidc.client_secret_file == Path("/etc/ilf/console/client-secret")
    volumes = named(objects, "Deployment", "ilf-console")["spec"]["template"]["spec"]["volumes"]
    (secrets,) = [one["projected"]["sources"] for one in volumes if one["name"] == "secrets"]
    assert [one["secret"]["name"] for one in secrets] == ["ilf-console", "ilf-oidc"]
    # What the console would make in its state directory is what the Secret holds.
    assert set(named(objects, "Secret", "ilf-console")["data"]) == {"session-key", console.token_file.name}


def test_placements_hold_only_what_was_set(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("training: {placements: {large: {nodes: 4, gpu: {count: 8}, resources: {requests: {cpu: 16}}}}}")
    kubernetes = settings(render("-f", str(file)), "finetune", tmp_path).kubernetes
    large = kubernetes.placements["large"]
    assert large.model_fields_set == {"nodes", "gpus", "requests"}
    assert (large.nodes, large.gpus, large.requests) == (4, 8, {"cpu": "16"})
    assert kubernetes.pods("large").limits == kubernetes.limits


def test_the_schema_knows_the_services_settings() -> None:
    assert values_schema.FILE.read_text(encoding="utf-8") == values_schema.render()
