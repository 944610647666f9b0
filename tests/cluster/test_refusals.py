"""Who may not call a release: pods without the token, with a foreign certificate, from elsewhere, or off the arrows.

Needs the images of ILF_TEST_REGISTRY and ILF_TEST_TAG on the cluster of KUBECONFIG, whose network plugin must enforce
NetworkPolicies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import Authority
from tests.cluster.small_release import SmallRelease, command, image, missing, small_release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600), pytest.mark.skipif(bool(missing()), reason=missing())]

FINETUNE, FRONT = "ilf-finetune:50054", "ilf-refinement:50051"
METHODS = {
    FINETUNE: "/ilf.finetune.v1.FinetuneService/ListFinetuneJobs",
    FRONT: "/ilf.refinement.v1.RefinementService/ListPolicies",
}
COMPONENT = "app.kubernetes.io/component"
CLIENT = {"ilf.dev/client": "true"}
PROBE_SECONDS = 150

# Arguments: the namespace of the release, and questions: [target, method, certificate, with token, what is expected].
# It waits for what a new pod is only let in to after a while, never for a refusal.
PROBE = """
import json, pathlib, socket, sys, time
import grpc

def read(name):
    return pathlib.Path("/probe", name).read_bytes()

def ask(target, method, certificate, token):
    try:
        socket.create_connection(target.split(":"), timeout=4).close()
    except TimeoutError:
        return "dropped"
    except OSError as error:
        return str(error)
    files = [read(certificate + ".key"), read(certificate + ".crt")] if certificate else []
    metadata = [("authorization", "Bearer " + read("token").decode())] if token else []
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(read("ca.crt"), *files)) as channel:
        try:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"

answers, deadline = [], time.monotonic() + 60
for name, method, certificate, token, expected in json.loads(sys.argv[2]):
    target = name.replace(":", "." + sys.argv[1] + ".svc:")
    while (answer := ask(target, method, certificate, token)) != expected and expected == "OK":
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    answers.append(answer)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def release() -> Iterator[SmallRelease]:
    with small_release(["finetune", "refinement-front"]) as release:
        yield release


@pytest.fixture(scope="module")
def credentials(release: SmallRelease, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a client of the release has, and a certificate of the same name by another authority."""
    tls = release.secret("ilf-client-tls")
    stranger = Authority(tmp_path_factory.mktemp("foreign"), "stranger")
    certificate, key = stranger.issue("client", name="client")
    own = {"ca.crt": tls["ca.crt"], "own.crt": tls["tls.crt"], "own.key": tls["tls.key"]}
    foreign = {"foreign.crt": certificate.read_bytes(), "foreign.key": key.read_bytes()}
    everything = {**own, **foreign, "token": release.secret("ilf-token")["token"]}
    return {name: content.decode() for name, content in everything.items()}


class Probes:
    """Pods that call the release, all at once."""

    def __init__(self, release: SmallRelease, credentials: dict[str, str]) -> None:
        self._release = release
        self._secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "probe"}, "stringData": credentials}
        self._expected: dict[SmallRelease, dict[str, list[str]]] = {}

    def start(self, place: SmallRelease, name: str, labels: dict[str, str], *questions: tuple[Any, ...]) -> None:
        """A pod with these labels that asks questions: target, certificate ("" for none), with token, what comes."""
        asked = [(target, METHODS[target], *rest) for target, *rest in questions]
        arguments = [PROBE, self._release.namespace, json.dumps(asked)]
        place.apply(self._secret, _pod(name, labels, arguments))
        self._expected.setdefault(place, {})[name] = [str(question[-1]) for question in questions]

    def check(self) -> None:
        """Every pod got the answers that were expected."""
        for place, expected in self._expected.items():
            names = [f"pod/{name}" for name in expected]
            ended = ("--for=jsonpath={.status.phase}=Succeeded", f"--timeout={PROBE_SECONDS}s")
            place.kubectl("wait", *names, *ended, timeout=PROBE_SECONDS + 10)
            assert {name: json.loads(place.kubectl("logs", name)) for name in expected} == expected


def _pod(name: str, labels: dict[str, str], arguments: list[str]) -> dict[str, Any]:
    container = {
        "name": "probe",
        "image": image("finetune"),
        "command": ["python", "-c", *arguments],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "probe", "mountPath": "/probe"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "probe", "secret": {"secretName": "probe"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def elsewhere(release: SmallRelease) -> Iterator[SmallRelease]:
    """Another namespace."""
    place = SmallRelease(f"{release.namespace}-elsewhere")
    command("kubectl", "create", "namespace", place.namespace)
    yield place
    command("kubectl", "delete", "namespace", place.namespace, "--wait=false")


def test_only_a_client_with_certificate_and_token_on_an_arrow_is_answered(
    release: SmallRelease, elsewhere: SmallRelease, credentials: dict[str, str]
) -> None:
    probes = Probes(release, credentials)
    probes.start(
        release,
        "client",
        CLIENT,
        (FINETUNE, "own", True, "OK"),
        (FINETUNE, "own", False, "UNAUTHENTICATED"),
        (FRONT, "own", False, "UNAUTHENTICATED"),
        # The handshake fails, so there is no connection.
        (FINETUNE, "foreign", True, "UNAVAILABLE"),
        (FRONT, "foreign", True, "UNAVAILABLE"),
        (FINETUNE, "", True, "UNAVAILABLE"),
        # Still there, and it is not the network that has refused.
        (FINETUNE, "own", True, "OK"),
    )
    allowed = (FINETUNE, "own", True, "dropped"), (FRONT, "own", True, "dropped")
    probes.start(elsewhere, "client", CLIENT, *allowed)
    probes.start(release, "nobody", {}, *allowed)
    # The release's own labels open only the arrows that they have.
    own = {"app.kubernetes.io/name": "ilf", "app.kubernetes.io/instance": "ilf"}
    probes.start(release, "trainer", {**own, COMPONENT: "trainer"}, *allowed)
    probes.start(release, "worker", {**own, COMPONENT: "ranking-worker"}, *allowed)
    probes.start(release, "orchestrator", {**own, COMPONENT: "orchestrator"}, (FINETUNE, "own", True, "OK"))
    probes.check()
