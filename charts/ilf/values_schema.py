"""Writes values.schema.json: what the chart decides by hand below, the services' `settings` from their own models.

`python -m charts.ilf.values_schema` writes the file, with `--check` it only says whether the file is up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ilf_common.front.settings import FrontSettings
from ilf_common.settings import ServerSettings
from services.console.settings import ConsoleSettings, HttpSettings
from services.finetune.settings import FinetuneSettings, TrainerSettings
from services.orchestrator.settings import OrchestratorSettings
from services.ranking.settings import RankingSettings
from services.refinement.settings import RefinementSettings
from services.reward.settings import RewardSettings

FILE = Path(__file__).with_name("values.schema.json")
Schema = dict[str, Any]

# The chart writes these itself.
CHART_OWNS = {
    "backend", "database_url", "finetune", "kubernetes", "plugin", "pools", "ranking", "refinement", "scaler",
    "services", "state_dir", "store", "telemetry", "trainer", "workers",
}  # fmt: skip
CHART_OWNS_OF_SERVER = {
    "host", "port", "metrics_port", "health_port", "drain_seconds", "tls_cert_file", "tls_key_file",
    "tls_client_ca_file", "token_file",
}  # fmt: skip


def obj(required: Iterable[str] = (), **properties: Schema) -> Schema:
    """An object that has these properties and no others."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def mapping(values: Schema) -> Schema:
    """An object with any names."""
    return {"type": "object", "additionalProperties": values}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(values)}


def integer(minimum: int, maximum: int | None = None) -> Schema:
    """A whole number."""
    schema: Schema = {"type": "integer", "minimum": minimum}
    return schema if maximum is None else {**schema, "maximum": maximum}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
NOT_NEGATIVE: Schema = {"type": "number", "minimum": 0}
QUANTITY: Schema = {
    "type": ["string", "integer", "number"],
    "pattern": r"^([0-9]+|[0-9]*\.[0-9]+)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$",
}
SIZE: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"}
NAME: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(h|m|s))+$"}
VARIABLES = {**mapping({"type": "string"}), "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}}
STRINGS = mapping(TEXT)
KUBERNETES_OBJECT: Schema = {"type": "object", "required": ["name"], "properties": {"name": TEXT}}
AUTO = one_of("auto", "enabled", "disabled")

TOLERATIONS = array(
    obj(
        key=TEXT,
        operator=one_of("Exists", "Equal"),
        value=TEXT,
        effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
        tolerationSeconds=integer(0),
    )
)
RESOURCES = obj(requests=mapping(QUANTITY), limits=mapping(QUANTITY))
SELECTOR = obj(
    matchLabels=STRINGS,
    matchExpressions=array(
        obj(["key", "operator"], key=TEXT, operator=one_of("In", "NotIn", "Exists", "DoesNotExist"), values=array(TEXT))
    ),
)
PEERS = array(
    obj(
        podSelector=SELECTOR,
        namespaceSelector=SELECTOR,
        ipBlock=obj(["cidr"], cidr=TEXT, **{"except": array(TEXT)}),
    )
)
PLACES = obj(cidrs=array(TEXT), ports=array(integer(1, 65535)))
INGRESS = obj(enabled=FLAG, className=TEXT, host=TEXT, tlsSecret=NAME, annotations=STRINGS)
GPU = obj(resource={"type": "string", "minLength": 1}, count=integer(0, 64))


def settings_of(model: type[BaseModel], server: type[BaseModel] = ServerSettings) -> Schema:
    """The settings of a service that the chart leaves to its user."""
    whole = model.model_json_schema()
    schema = _inlined(whole, whole.get("$defs", {}))
    properties = {name: field for name, field in schema["properties"].items() if name not in CHART_OWNS}
    if "server" in properties:
        properties["server"] = server_settings(server)
    return obj(**properties)


def server_settings(model: type[BaseModel]) -> Schema:
    """What the chart leaves open of how a server listens."""
    schema = model.model_json_schema()
    left = {name: field for name, field in schema["properties"].items() if name not in CHART_OWNS_OF_SERVER}
    return obj(**{name: _inlined(field, {}) for name, field in left.items()})


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """References resolved, and without what only describes."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    kept = {}
    for key, value in node.items():
        if key == "properties":
            kept[key] = {name: _inlined(field, definitions) for name, field in value.items()}
        elif key not in ("$defs", "title", "description", "default", "format"):
            kept[key] = _inlined(value, definitions)
    return kept


def ranking_settings() -> Schema:
    """As the others; a text in the place of a judge model is its source."""
    schema = settings_of(RankingSettings)
    models = schema["properties"]["models"]
    models["additionalProperties"] = {"anyOf": [{"type": "string", "minLength": 1}, models["additionalProperties"]]}
    return schema


def stage(settings: Schema, **more: Schema) -> Schema:
    """A serving stage."""
    return obj(
        image=TEXT,
        front=obj(
            replicas=integer(1, 100),
            nodeSelector=STRINGS,
            tolerations=TOLERATIONS,
            settings=settings_of(FrontSettings),
            resources=RESOURCES,
        ),
        pool=obj(
            nodeSelector=STRINGS,
            tolerations=TOLERATIONS,
            gpu=GPU,
            tensorParallel=integer(1, 64),
            minReplicas=integer(0),
            maxReplicas=integer(1),
            idleSeconds=integer(0),
            targetSeconds=POSITIVE,
            handOver=FLAG,
            warmup=obj(startSeconds=NOT_NEGATIVE, itemsPerSecond=POSITIVE),
        ),
        resources=RESOURCES,
        shmSize=SIZE,
        startupSeconds=integer(2),
        drainSeconds=integer(0),
        surge=integer(0, 100),
        env=VARIABLES,
        settings=settings,
        **more,
    )


def controller(settings: Schema, **more: Schema) -> Schema:
    """A service of one pod."""
    return obj(
        image=TEXT,
        nodeSelector=STRINGS,
        tolerations=TOLERATIONS,
        resources=RESOURCES,
        drainSeconds=integer(0),
        env=VARIABLES,
        settings=settings,
        **more,
    )


def values() -> Schema:
    """All values."""
    return obj(
        nameOverride=NAME,
        fullnameOverride=NAME,
        clusterDomain={**NAME, "minLength": 1},
        image=obj(
            registry=TEXT,
            repository=TEXT,
            tag=TEXT,
            pullPolicy=one_of("Always", "IfNotPresent", "Never"),
            pullSecrets=array({**NAME, "minLength": 1}),
        ),
        models={**mapping({"type": "string", "minLength": 1}), "propertyNames": {"pattern": "^[A-Za-z0-9._/-]+$"}},
        store=obj(
            root={"type": "string", "pattern": "^((s3|gs)://.+)?$"},
            existingSecret=NAME,
            env=VARIABLES,
            claim=obj(existingClaim=NAME, storageClass=NAME, size=SIZE),
        ),
        modelVolume=obj(
            enabled=FLAG,
            existingClaim=NAME,
            storageClass=NAME,
            size=SIZE,
            download=array({"type": "string", "pattern": r"^[\w.-]+(/[\w.-]+)?(@[\w./-]+)?$"}),
        ),
        huggingface=obj(offline=FLAG, existingSecret=NAME, key={"type": "string", "minLength": 1}),
        tls=obj(
            mode=one_of("auto", "cert-manager", "chart", "existing", "off"),
            mutual=FLAG,
            existingSecret=NAME,
            existingClientSecret=NAME,
            issuer=obj(name=TEXT, kind=one_of("Issuer", "ClusterIssuer"), group=TEXT),
            duration=DURATION,
            validityDays=integer(1, 3650),
            rotation=TEXT,
            extraNames=array({"type": "string", "minLength": 1}),
        ),
        auth=obj(enabled=FLAG, existingSecret=NAME, key={"type": "string", "minLength": 1}),
        networkPolicy=obj(
            enabled=FLAG,
            clients=PEERS,
            plugins=PEERS,
            browsers=PEERS,
            monitoring=PEERS,
            keda=PEERS,
            kuberay=PEERS,
            store=PLACES,
            hub=PLACES,
            apiServer=PLACES,
            oidc=PLACES,
            otlp=PLACES,
            database=PLACES,
        ),
        telemetry=obj(otlpEndpoint=TEXT, logLevel=one_of("DEBUG", "INFO", "WARNING", "ERROR")),
        autoscaling=obj(mode=one_of("auto", "keda", "hpa", "fixed"), hpaCpuPercent=integer(1, 100)),
        kueue=obj(
            mode=AUTO,
            servingQueue=NAME,
            trainingQueue=NAME,
            create=obj(enabled=FLAG, quota=mapping(QUANTITY), nodeLabels=STRINGS, tolerations=TOLERATIONS),
        ),
        priorityClasses=obj(create=FLAG, control=NAME, serving=NAME, training=NAME),
        topologySpread=obj(key=TEXT),
        podLabels=STRINGS,
        podAnnotations=STRINGS,
        writableRoot=FLAG,
        refinement=stage(settings_of(RefinementSettings)),
        ranking=stage(
            ranking_settings(),
            ray=obj(
                mode=one_of("auto", "kuberay", "inprocess"),
                version={"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
                head=obj(cpus=integer(0), objectStoreMemory=integer(80_000_000), resources=RESOURCES),
                autoscaler=obj(resources=RESOURCES),
            ),
        ),
        reward=stage(settings_of(RewardSettings), enabled=FLAG),
        training=obj(
            image=TEXT,
            kind=one_of("auto", "job", "jobset"),
            pool=obj(
                nodeSelector=STRINGS,
                tolerations=TOLERATIONS,
                gpu=GPU,
                nodes=integer(1, 1024),
                processesPerNode=integer(1, 64),
            ),
            resources=RESOURCES,
            shmSize=SIZE,
            ttlSeconds=integer(0),
            env=VARIABLES,
            envFromSecrets=array(NAME),
            volumes=array(KUBERNETES_OBJECT),
            volumeMounts=array(KUBERNETES_OBJECT),
            placements=mapping(
                obj(
                    nodes=integer(1, 1024),
                    processesPerNode=integer(1, 64),
                    gpu=GPU,
                    resources=RESOURCES,
                    nodeSelector=STRINGS,
                    tolerations=TOLERATIONS,
                    priorityClass=NAME,
                    queue=NAME,
                    env=VARIABLES,
                    envFromSecrets=array(NAME),
                    volumes=array(KUBERNETES_OBJECT),
                    volumeMounts=array(KUBERNETES_OBJECT),
                )
            ),
            settings=_inlined(TrainerSettings.model_json_schema(), {}),
        ),
        finetune=controller(settings_of(FinetuneSettings)),
        orchestrator=controller(settings_of(OrchestratorSettings)),
        console=controller(
            settings_of(ConsoleSettings, HttpSettings),
            enabled=FLAG,
            replicas=integer(1, 100),
            existingSecret=NAME,
            secrets=array({**NAME, "minLength": 1}),
            ingress=INGRESS,
        ),
        postgresql=obj(
            enabled=FLAG,
            image={"type": "string", "minLength": 1},
            runAsUser=integer(1),
            existingSecret=NAME,
            storageClass=NAME,
            size=SIZE,
            resources=RESOURCES,
        ),
        externalDatabase=obj(existingSecret=NAME, key={"type": "string", "minLength": 1}),
        metrics=obj(
            serviceMonitor=AUTO,
            prometheusRule=AUTO,
            dashboard=obj(enabled=FLAG, labels=STRINGS),
            labels=STRINGS,
            interval=DURATION,
        ),
        ingress=INGRESS,
        grpcRoute=obj(
            enabled=FLAG,
            hostnames=array(TEXT),
            parentRefs=array(
                obj(
                    ["name"], name=TEXT, namespace=TEXT, sectionName=TEXT, port=integer(1, 65535), kind=TEXT, group=TEXT
                )
            ),
            annotations=STRINGS,
        ),
        tests=obj(enabled=FLAG, image=TEXT, model=TEXT, training=FLAG, timeoutSeconds=integer(1)),
        **{"global": {"type": "object"}},
    )


def render() -> str:
    """The text of the file."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the ILF chart", **values()}
    return json.dumps(schema, indent=1) + "\n"


def main() -> int:
    """Writes or checks the file."""
    if "--check" not in sys.argv:
        FILE.write_text(render(), encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != render():
        print(f"{FILE} is behind the services' settings: run python -m charts.ilf.values_schema", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
