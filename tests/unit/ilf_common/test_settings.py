from __future__ import annotations

from pathlib import Path

import pytest

from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import ServerSettings, SettingsBase, load_settings


class EngineGroup(SettingsBase):
    kind: str = "auto"
    device: str | None = None


class DemoSettings(SettingsBase):
    server: ServerSettings = ServerSettings(port=50099)
    engine: EngineGroup = EngineGroup()
    models: dict[str, str] = {}
    refinement: ChannelSettings = ChannelSettings(address="127.0.0.1:50051")


def load(tmp_path: Path, yaml: str | None = None, **variables: str) -> DemoSettings:
    if yaml is not None:
        file = tmp_path / "ilf.yaml"
        file.write_text(yaml)
        variables["ILF_CONFIG_FILE"] = str(file)
    return load_settings(DemoSettings, "demo", variables)


def violated(error: InvalidArgumentError) -> list[str]:
    return [violation.field for violation in error.violations]


def test_without_file_and_variables_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == DemoSettings()


def test_variables_win_over_the_file_field_by_field(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "demo: {server: {port: 1, host: 0.0.0.0}, engine: {kind: vllm}}\nother: {x: 1}",
        ILF_DEMO__SERVER__PORT="2",
        ILF_DEMO__SERVER__DRAIN_SECONDS="0.5",
        ILF_DEMO__SERVER__REFLECTION="false",
        ILF_DEMO__MODELS='{"base": "/models/base"}',
        ILF_DEMO__REFINEMENT__ADDRESS="refine:1",
    )
    assert (settings.server.host, settings.server.port, settings.server.drain_seconds) == ("0.0.0.0", 2, 0.5)
    assert settings.engine.kind == "vllm" and settings.server.reflection is False
    assert settings.models == {"base": "/models/base"} and settings.refinement.address == "refine:1"


def test_an_ipv6_host_is_text_though_it_begins_like_json(tmp_path: Path) -> None:
    assert load(tmp_path, ILF_DEMO__SERVER__HOST="[::]").server.host == "[::]"


def test_unknown_variables_are_refused_all_at_once_and_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, ILF_DEMO__SERVER__PROT="1", ILF_DEMO__NOTHING="1", ILF_OTHER__NOTHING="1")
    assert violated(caught.value) == ["ILF_DEMO__NOTHING", "ILF_DEMO__SERVER__PROT"]


def test_an_unknown_field_of_the_file_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, "demo: {engine: {knd: vllm}, refinement: {address: a, adress: b}}")
    assert sorted(violated(caught.value)) == ["demo.engine.knd", "demo.refinement.adress"]


def test_a_wrong_value_names_the_variable_that_holds_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, ILF_DEMO__SERVER__PORT="seventy")
    assert violated(caught.value) == ["ILF_DEMO__SERVER__PORT"]


@pytest.mark.parametrize("text", ["demo: 3", "- a", "demo: {", "\xff\xfe"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load(tmp_path, text)
    assert violated(caught.value) == ["ILF_CONFIG_FILE"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load_settings(DemoSettings, "demo", {"ILF_CONFIG_FILE": str(tmp_path / "none.yaml")})


def test_half_a_tls_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="belong together"):
        load(tmp_path, ILF_DEMO__SERVER__TLS_CERT_FILE="cert.pem")


def test_settings_cannot_be_changed_after_reading(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).engine.kind = "x"  # type: ignore[misc]
