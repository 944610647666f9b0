from __future__ import annotations

from pathlib import Path

import pytest

from ilf_client import Endpoints, InvalidArgumentError, Security


def test_a_host_has_the_five_default_ports() -> None:
    endpoints = Endpoints.at("gpu-box")
    assert (endpoints.refinement, endpoints.orchestrator) == ("gpu-box:50051", "gpu-box:50055")
    assert Endpoints.at("[::1]").ranking == "[::1]:50052"


def test_a_gateway_serves_all() -> None:
    assert set(vars(Endpoints.at("ilf.example:443")).values()) == {"ilf.example:443"}
    assert Endpoints.at("[::1]:443").reward == "[::1]:443"


@pytest.mark.parametrize("server", [":443", "host:http"])
def test_a_port_is_a_number(server: str) -> None:
    with pytest.raises(InvalidArgumentError, match="host:port"):
        Endpoints.at(server)


def test_the_environment_names_all_or_single_services() -> None:
    assert Endpoints.from_environment({}) == Endpoints()
    endpoints = Endpoints.from_environment({"ILF_SERVER": "box", "ILF_REWARD_ADDRESS": "other:1"})
    assert (endpoints.finetune, endpoints.reward) == ("box:50054", "other:1")
    security = Security.from_environment({"ILF_TLS_CA_FILE": "ca.pem", "ILF_TOKEN_FILE": "token"})
    assert security == Security(tls_ca_file=Path("ca.pem"), token_file=Path("token"))
