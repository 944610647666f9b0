"""`ilf doctor --cluster`: every lack becomes a finding that says how to mend it, and none hides another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ilf_client.cluster.checks import diagnose_cluster
from ilf_client.cluster.ports import Claim, Nodes, Permission, Pod, StorageClass
from ilf_client.diagnosis import Finding, Verdict
from ilf_common.errors import PermissionDeniedError, UnavailableError
from tests.fakes.cluster import FakeCluster, certificate, release_services


def test_a_cluster_that_has_everything_is_well() -> None:
    findings = diagnose_cluster(FakeCluster(), None)
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert {"kubernetes", "keda.sh", "gpus", "storage", "may connect", "release", "pods", "ilf-tls", "training"} <= {
        finding.subject for finding in findings
    }


def _old(cluster: FakeCluster) -> None:
    cluster.kubernetes = "v1.29.8"


def _no_keda(cluster: FakeCluster) -> None:
    cluster.apis.remove("keda.sh/v1alpha1")


def _no_gpus(cluster: FakeCluster) -> None:
    cluster.all_nodes = Nodes(1, 1, {"nvidia.com/gpu": 0})


def _lost_node(cluster: FakeCluster) -> None:
    cluster.all_nodes = Nodes(1, 2, {"nvidia.com/gpu": 8})


def _no_default_class(cluster: FakeCluster) -> None:
    cluster.classes = [StorageClass("fast", "local", False)]


def _no_forwarding(cluster: FakeCluster) -> None:
    cluster.forbidden.add(Permission("create", "pods/portforward"))


def _no_jobs(cluster: FakeCluster) -> None:
    cluster.forbidden.add(Permission("create", "jobs", "batch", "ilf-finetune"))


def _no_release(cluster: FakeCluster) -> None:
    cluster.all_services = []


def _other_version(cluster: FakeCluster) -> None:
    cluster.all_services = release_services(version="0.9.0")


def _crashing(cluster: FakeCluster) -> None:
    cluster.pods_by_component["finetune"] = [Pod("finetune-0", False, "finetune: CrashLoopBackOff")]


def _starting(cluster: FakeCluster) -> None:
    cluster.pods_by_component["finetune"] = [Pod("finetune-0", False, "starting")]


def _unbound(cluster: FakeCluster) -> None:
    cluster.all_claims = [Claim("ilf-artifacts", "Pending")]


def _expiring(cluster: FakeCluster) -> None:
    cluster.secrets["ilf-tls"] = {"tls.crt": certificate(3.5)}


def _expired(cluster: FakeCluster) -> None:
    cluster.secrets["ilf-client-tls"] = {"tls.crt": certificate(-1)}


def _no_certificate(cluster: FakeCluster) -> None:
    cluster.secrets["ilf-tls"] = {"tls.crt": b"nonsense"}


@pytest.mark.parametrize(
    ("change", "subject", "verdict", "said"),
    [
        (_old, "kubernetes", Verdict.PROBLEM, "1.30"),
        (_no_keda, "keda.sh", Verdict.WARNING, "HorizontalPodAutoscaler"),
        (_no_gpus, "gpus", Verdict.WARNING, "no node"),
        (_lost_node, "nodes", Verdict.WARNING, "1 of 2"),
        (_no_default_class, "storage", Verdict.WARNING, "fast"),
        (_no_forwarding, "may connect", Verdict.PROBLEM, "create pods/portforward"),
        (_no_jobs, "training", Verdict.PROBLEM, "create jobs"),
        (_no_release, "release", Verdict.WARNING, "namespace here"),
        (_other_version, "client", Verdict.WARNING, "0.9.0"),
        (_crashing, "pod", Verdict.PROBLEM, "CrashLoopBackOff"),
        (_starting, "pod", Verdict.WARNING, "starting"),
        (_unbound, "claim", Verdict.PROBLEM, "Pending"),
        (_expiring, "ilf-tls", Verdict.PROBLEM, "expires in 3 days"),
        (_expired, "ilf-client-tls", Verdict.PROBLEM, "has expired"),
        (_no_certificate, "ilf-tls", Verdict.PROBLEM, "no certificate"),
    ],
)
def test_a_lack_is_the_only_finding_that_is_not_well(
    change: Callable[[FakeCluster], None], subject: str, verdict: Verdict, said: str
) -> None:
    cluster = FakeCluster()
    change(cluster)
    (finding,) = _troubles(cluster)
    assert (finding.subject, finding.verdict) == (subject, verdict)
    assert said in finding.text
    assert finding.mend or subject == "release"


def test_what_may_not_be_looked_at_hides_nothing_else() -> None:
    cluster = FakeCluster()
    cluster.failures = {"nodes": PermissionDeniedError("no nodes"), "secret": PermissionDeniedError("no secrets")}
    assert [finding.text for finding in _troubles(cluster)] == ["no nodes", "no secrets"]
    assert any(finding.subject == "training" for finding in diagnose_cluster(cluster, None))


def test_a_cluster_that_does_not_answer_is_an_error_not_a_finding() -> None:
    cluster = FakeCluster()
    cluster.failures = {"version": UnavailableError("away")}
    with pytest.raises(UnavailableError):
        diagnose_cluster(cluster, None)


def _troubles(cluster: FakeCluster) -> list[Finding]:
    return [finding for finding in diagnose_cluster(cluster, None) if finding.verdict is not Verdict.OK]
