"""What the chart installed: names, labels and secrets."""

from __future__ import annotations

from dataclasses import dataclass

from ilf_client.cluster.ports import Cluster, Service
from ilf_common.errors import FailedPreconditionError, NotFoundError

COMPONENTS = {
    "refinement": "refinement-front",
    "ranking": "ranking-front",
    "reward": "reward-front",
    "finetune": "finetune",
    "orchestrator": "orchestrator",
}
_PART_OF = {"app.kubernetes.io/part-of": "ilf"}
_COMPONENT = "app.kubernetes.io/component"
_INSTANCE = "app.kubernetes.io/instance"
_SUFFIX = "-orchestrator"


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace.

    Attributes:
        name: As `helm install` was told.
        chart: Chart and version.
        app_version: Version of the services.
        fullname: How the names of its objects begin.
        services: The Services that clients call, by service; reward may be missing.
    """

    name: str
    chart: str
    app_version: str
    fullname: str
    services: dict[str, Service]

    @property
    def labels(self) -> dict[str, str]:
        """Labels of all its objects."""
        return {**_PART_OF, _INSTANCE: self.name}


def find_release(cluster: Cluster, name: str | None = None) -> Release:
    """The release of the namespace.

    Raises:
        NotFoundError: There is none, or none of this name.
        FailedPreconditionError: There are several, and none was named.
    """
    labels = {**_PART_OF, **({_INSTANCE: name} if name else {})}
    found = cluster.services(labels)
    releases = sorted({service.labels[_INSTANCE] for service in found if _INSTANCE in service.labels})
    if not releases:
        raise NotFoundError(
            f"There is no release of the chart{f' named {name}' if name else ''} in the namespace {cluster.namespace}; "
            "name another with --namespace, or install one: helm install ilf charts/ilf.",
            resource_type="release",
            resource_name=name or "",
            reason="RELEASE_NOT_FOUND",
        )
    if len(releases) > 1:
        raise FailedPreconditionError(
            f"The namespace {cluster.namespace} has several releases: {', '.join(releases)}. Choose with --release.",
            reason="RELEASE_AMBIGUOUS",
        )
    ours = {
        service: by_component
        for service, component in COMPONENTS.items()
        if (by_component := next((one for one in found if one.labels.get(_COMPONENT) == component), None))
    }
    if "orchestrator" not in ours:
        raise FailedPreconditionError(
            f"The release {releases[0]} has no Service of the orchestrator; is it being installed or uninstalled?",
            reason="RELEASE_INCOMPLETE",
        )
    orchestrator = ours["orchestrator"]
    return Release(
        releases[0],
        orchestrator.labels.get("helm.sh/chart", ""),
        orchestrator.labels.get("app.kubernetes.io/version", ""),
        orchestrator.name.removesuffix(_SUFFIX),
        ours,
    )
