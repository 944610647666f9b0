"""Settings of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ilf_client import Endpoints, Security
from ilf_common.settings import Port, SettingsBase, TelemetrySettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HttpSettings(SettingsBase):
    """How the console listens.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        metrics_port: Port of the Prometheus page; 0 switches it off.
        url: Where people reach it, as `https://ilf.example.org`; behind an ingress that ends TLS this is the ingress's
            address. None means host and port. Plain http is allowed on this machine alone.
        max_body_bytes: Largest request; further bytes are refused.
        drain_seconds: Time that running requests have to finish after SIGTERM.
    """

    host: str = "127.0.0.1"
    port: Port = 50070
    metrics_port: Port = 0
    url: str | None = None
    max_body_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    drain_seconds: int = Field(default=5, ge=0)

    @field_validator("url")
    @classmethod
    def _url_is_safe(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is no address of a server; write it as https://ilf.example.org")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"{url!r} is plain http: sessions need https everywhere but on this machine")
        return url.rstrip("/")

    @property
    def is_https(self) -> bool:
        """Whether browsers reach it through TLS."""
        return self.url is not None and self.url.startswith("https:")


class SessionSettings(SettingsBase):
    """How long people stay signed in.

    Attributes:
        idle_hours: A session ends so long after its last use.
        longest_hours: A session ends so long after its sign-in, whatever its use.
        key_file: Holds the key that signs sessions, at least 32 bytes; another key signs everybody out. None makes one
            in the state directory.
    """

    idle_hours: float = Field(default=12.0, gt=0)
    longest_hours: float = Field(default=7 * 24.0, gt=0)
    key_file: Path | None = None


class AccountSettings(SettingsBase):
    """An account of this machine.

    Attributes:
        name: Whose it is; stands beside the answers.
        role: What it may do.
        token_file: File with the token that signs in.
    """

    name: str = Field(min_length=1, max_length=100)
    role: Literal["annotator", "engineer"]
    token_file: Path


class OidcSettings(SettingsBase):
    """Sign-in with an OpenID Connect provider.

    Attributes:
        issuer: The provider's address; `/.well-known/openid-configuration` lies below it.
        client_id: The console's id at the provider.
        client_secret_file: File with its secret; None for a public client. PKCE is used in any case.
        scope: What is asked for.
        name_claim: The claim that names a person; has to be unique. `sub` is taken where it is missing.
        roles_claim: The claim with a person's groups or roles: a list, or words with spaces between.
        engineers: Values of that claim that make an engineer.
        annotators: Values of that claim that make an annotator.
    """

    issuer: str = Field(pattern="^https?://")
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = None
    scope: str = "openid profile email"
    name_claim: str = "preferred_username"
    roles_claim: str = "groups"
    engineers: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _somebody_may_come_in(self) -> OidcSettings:
        if not self.engineers and not self.annotators:
            raise ValueError("neither engineers nor annotators are named: nobody could come in")
        return self


class ServicesSettings(SettingsBase):
    """Where the five services are, and how they are talked to.

    Attributes:
        refinement, ranking, reward, finetune, orchestrator: Addresses as `host:port`.
        tls_ca_file: PEM authorities of the services' certificates; None means no TLS.
        tls_cert_file: PEM certificate of the console, where services ask for one.
        tls_key_file: Its PEM private key.
        token_file: File with the bearer token that services want.
        call_seconds: A call is given up after so long, and the page says which service did not answer.
    """

    refinement: str = Endpoints.refinement
    ranking: str = Endpoints.ranking
    reward: str = Endpoints.reward
    finetune: str = Endpoints.finetune
    orchestrator: str = Endpoints.orchestrator
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    token_file: Path | None = None
    call_seconds: float = Field(default=20.0, gt=0)

    @property
    def endpoints(self) -> Endpoints:
        """The addresses."""
        return Endpoints(self.refinement, self.ranking, self.reward, self.finetune, self.orchestrator)

    @property
    def security(self) -> Security:
        """The files."""
        return Security(self.tls_ca_file, self.tls_cert_file, self.tls_key_file, self.token_file)


class ConsoleSettings(SettingsBase):
    """All settings of the console.

    Attributes:
        server: How it listens.
        telemetry: Logs and traces.
        services: Whom it calls.
        session: How long people stay signed in.
        accounts: Accounts of this machine. Without any, and without `oidc`, whoever has the token in
            `<state_dir>/token` comes in as an engineer, under a name of their choice.
        oidc: Sign-in with a provider.
        state_dir: Holds the token and the key of sessions over restarts.
    """

    server: HttpSettings = HttpSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    services: ServicesSettings = ServicesSettings()
    session: SessionSettings = SessionSettings()
    accounts: tuple[AccountSettings, ...] = ()
    oidc: OidcSettings | None = None
    state_dir: Path = Path(".ilf/console")

    @property
    def token_file(self) -> Path:
        """The token of the machine's own account."""
        return self.state_dir / "token"

    @property
    def url(self) -> str:
        """Where people reach it."""
        host = "127.0.0.1" if self.server.host in ("0.0.0.0", "::", "[::]") else self.server.host
        return self.server.url or f"http://{host}:{self.server.port}"
