"""What a cluster has and lacks for ILF, each finding with how to mend it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from ilf_client.cluster.ports import Cluster, Permission
from ilf_client.cluster.release import Release, find_release
from ilf_client.diagnosis import Finding, Verdict
from ilf_common.errors import IlfError, NotFoundError, PermissionDeniedError

LEAST_KUBERNETES = (1, 30)
_SOON_DAYS = 14
# API group, what is lost without it, how it is installed
_ADDONS = (
    (
        "keda.sh",
        "pools do not go to zero; a HorizontalPodAutoscaler or fixed replicas serve instead",
        "helm install keda kedacore/keda -n keda --create-namespace",
    ),
    (
        "ray.io",
        "judges run in the ranking workers, without Ray's own autoscaling",
        "helm install kuberay-operator kuberay/kuberay-operator",
    ),
    (
        "kueue.x-k8s.io",
        "training does not queue with the cluster's other jobs",
        "helm install kueue oci://registry.k8s.io/kueue/charts/kueue -n kueue-system --create-namespace",
    ),
    (
        "jobset.x-k8s.io",
        "training on several nodes uses an Indexed Job",
        "helm install jobset oci://registry.k8s.io/jobset/charts/jobset -n jobset-system --create-namespace",
    ),
    (
        "cert-manager.io",
        "the chart makes the certificates; renew them with `helm upgrade --set tls.rotation=…`",
        "helm install cert-manager jetstack/cert-manager -n cert-manager --create-namespace --set crds.enabled=true",
    ),
    (
        "metrics.k8s.io",
        "no HorizontalPodAutoscaler where KEDA is missing, and no `kubectl top`",
        "helm install metrics-server metrics-server/metrics-server -n kube-system",
    ),
    (
        "monitoring.coreos.com",
        "no ServiceMonitors and alerts; scrape the pods' metrics ports yourself",
        "helm install prometheus prometheus-community/kube-prometheus-stack -n monitoring --create-namespace",
    ),
)
_CONNECT = (
    Permission("list", "services"),
    Permission("list", "pods"),
    Permission("create", "pods/portforward"),
    Permission("get", "secrets"),
)
_INSTALL = (
    Permission("create", "deployments", "apps"),
    Permission("create", "roles", "rbac.authorization.k8s.io"),
    Permission("create", "networkpolicies", "networking.k8s.io"),
    Permission("create", "secrets"),
)
_CONTROLLER = (
    Permission("create", "jobs", "batch"),
    Permission("watch", "jobs", "batch"),
    Permission("delete", "jobs", "batch"),
    Permission("watch", "pods"),
)


def diagnose_cluster(cluster: Cluster, release_name: str | None) -> list[Finding]:
    """Looks at the cluster, then at the release, where there is one.

    Raises:
        UnavailableError, UnauthenticatedError: Nothing can be found out about the cluster.
    """
    findings = list(_version(cluster))
    checks: list[Callable[[], Iterable[Finding]]] = [
        lambda: _addons(cluster),
        lambda: _gpus(cluster),
        lambda: _storage(cluster),
        lambda: _permissions(cluster),
        lambda: _release(cluster, release_name),
    ]
    for check in checks:
        findings += _allowed(check)
    return findings


def _allowed(check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What the user may not look at is a finding too, and hides no other."""
    try:
        return list(check())
    except PermissionDeniedError as error:
        return [Finding("permissions", Verdict.WARNING, error.message, "Ask an administrator to look, or to allow it.")]


def _version(cluster: Cluster) -> Iterable[Finding]:
    text = cluster.version()
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match and (int(match[1]), int(match[2])) >= LEAST_KUBERNETES:
        yield Finding("kubernetes", Verdict.OK, text)
    else:
        least = ".".join(map(str, LEAST_KUBERNETES))
        yield Finding("kubernetes", Verdict.PROBLEM, f"{text} is older than {least}", "Upgrade the cluster.")


def _addons(cluster: Cluster) -> Iterable[Finding]:
    there: dict[str, list[str]] = {}
    for name in sorted(cluster.api_versions()):
        group, _, version = name.rpartition("/")
        there.setdefault(group, []).append(version)
    for group, loss, mend in _ADDONS:
        if group in there:
            yield Finding(group, Verdict.OK, ", ".join(there[group]))
        else:
            yield Finding(group, Verdict.WARNING, f"is not installed: {loss}", mend)


def _gpus(cluster: Cluster) -> Iterable[Finding]:
    nodes = cluster.nodes()
    verdict = Verdict.OK if nodes.ready == nodes.total and nodes.total else Verdict.WARNING
    mend = "" if verdict is Verdict.OK else "kubectl describe node says why a node is not ready."
    yield Finding("nodes", verdict, f"{nodes.ready} of {nodes.total} ready", mend)
    if any(nodes.gpus.values()):
        yield Finding(
            "gpus", Verdict.OK, ", ".join(f"{amount} x {name}" for name, amount in sorted(nodes.gpus.items()))
        )
    else:
        mend = "Install the GPU operator of their maker, or set `pool.gpu.count: 0` in the chart's values for CPUs."
        yield Finding("gpus", Verdict.WARNING, "no node offers any", mend)


def _storage(cluster: Cluster) -> Iterable[Finding]:
    classes = cluster.storage_classes()
    default = next((one for one in classes if one.is_default), None)
    if default is not None:
        yield Finding("storage", Verdict.OK, f"default class {default.name} ({default.provisioner})")
        return
    names = ", ".join(one.name for one in classes) or "none at all"
    mend = "Name one that offers ReadWriteMany in store.claim.storageClass, or keep artifacts in S3 with store.root."
    yield Finding("storage", Verdict.WARNING, f"no default storage class; there are: {names}", mend)


def _permissions(cluster: Cluster) -> Iterable[Finding]:
    for purpose, wanted, verdict in (("connect", _CONNECT, Verdict.PROBLEM), ("install", _INSTALL, Verdict.WARNING)):
        missing = [permission for permission in wanted if not cluster.may(permission)]
        subject = f"may {purpose}"
        if missing:
            mend = f"Ask for a Role in the namespace {cluster.namespace} that allows it."
            yield Finding(subject, verdict, f"not allowed: {_listed(missing)}", mend)
        else:
            yield Finding(subject, Verdict.OK, f"in the namespace {cluster.namespace}")


def _release(cluster: Cluster, name: str | None) -> Iterable[Finding]:
    try:
        release = find_release(cluster, name)
    except NotFoundError as error:
        yield Finding("release", Verdict.PROBLEM if name else Verdict.WARNING, error.message)
        return
    except PermissionDeniedError:
        raise
    except IlfError as error:
        yield Finding("release", Verdict.PROBLEM, error.message)
        return
    yield Finding("release", Verdict.OK, f"{release.name}: {release.chart}, services {release.app_version}")
    for check in (_client_version, _pods, _claims, _certificates, _controller):
        yield from _allowed(lambda check=check: check(cluster, release))  # type: ignore[misc]


def _client_version(cluster: Cluster, release: Release) -> Iterable[Finding]:
    from importlib.metadata import version

    ours = version("ilf")
    if ours.split(".")[:2] == release.app_version.split(".")[:2]:
        yield Finding("client", Verdict.OK, ours)
    else:
        mend = f"pip install ilf=={release.app_version}, or upgrade the release."
        yield Finding("client", Verdict.WARNING, f"{ours} here, {release.app_version} in the cluster", mend)


def _pods(cluster: Cluster, release: Release) -> Iterable[Finding]:
    pods = cluster.pods(release.labels)
    troubled = [pod for pod in pods if not pod.ready]
    for pod in troubled:
        mend = f"kubectl -n {cluster.namespace} describe pod {pod.name}"
        verdict = Verdict.WARNING if pod.trouble == "starting" else Verdict.PROBLEM
        yield Finding("pod", verdict, f"{pod.name} is not ready: {pod.trouble}", mend)
    if pods and not troubled:
        yield Finding("pods", Verdict.OK, f"{len(pods)} ready")
    elif not pods:
        mend = f"kubectl -n {cluster.namespace} get events says why none was made."
        yield Finding("pods", Verdict.PROBLEM, "there are none", mend)


def _claims(cluster: Cluster, release: Release) -> Iterable[Finding]:
    for claim in cluster.claims(release.labels):
        if claim.phase == "Bound":
            yield Finding("claim", Verdict.OK, f"{claim.name} is bound")
        else:
            mend = f"kubectl -n {cluster.namespace} describe pvc {claim.name}; the class must offer its access mode."
            yield Finding("claim", Verdict.PROBLEM, f"{claim.name} is {claim.phase}", mend)


def _certificates(cluster: Cluster, release: Release) -> Iterable[Finding]:
    from cryptography import x509

    for name in (f"{release.fullname}-tls", f"{release.fullname}-client-tls"):
        content = (cluster.secret(name) or {}).get("tls.crt")
        if content is None:
            continue
        try:
            end = x509.load_pem_x509_certificate(content).not_valid_after_utc
        except ValueError:
            yield Finding(
                name, Verdict.PROBLEM, "holds no certificate that can be read", "Put a PEM chain into tls.crt."
            )
            continue
        days = (end - datetime.now(UTC)).days
        if days >= _SOON_DAYS:
            yield Finding(name, Verdict.OK, f"valid until {end:%Y-%m-%d}")
        else:
            said = "has expired" if end <= datetime.now(UTC) else f"expires in {days} days"
            mend = "helm upgrade with another tls.rotation, or see why cert-manager did not renew it."
            yield Finding(name, Verdict.PROBLEM, f"{said} ({end:%Y-%m-%d %H:%M} UTC)", mend)


def _controller(cluster: Cluster, release: Release) -> Iterable[Finding]:
    account = f"{release.fullname}-finetune"
    wanted = [Permission(one.verb, one.resource, one.group, account) for one in _CONTROLLER]
    missing = [permission for permission in wanted if not cluster.may(permission)]
    if missing:
        mend = "helm upgrade brings its Role back."
        yield Finding("training", Verdict.PROBLEM, f"{account} is not allowed: {_listed(missing)}", mend)
    else:
        yield Finding("training", Verdict.OK, f"{account} may make jobs")


def _listed(permissions: Iterable[Permission]) -> str:
    return ", ".join(map(str, permissions))
