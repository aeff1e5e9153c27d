"""Where Assay runs: the environment, never what changes a result."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables `ASSAY_…`; an empty one counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", extra="ignore", env_ignore_empty=True
    )

    # Relative to the project, not to the folder in which a command is typed.
    home: Path = Path(".assay")
    """Everything that Assay keeps outside git.

    Cache, scratch, worktrees, base models, MLflow's database.
    """

    user: str = ""
    """A name of one's own that the ledger records; empty: the login name."""

    ledger_url: str = ""
    """Where the ledger is: `postgresql://…`; empty: SQLite in the home."""

    mlflow_database_url: str = ""
    """Records of the home's own MLflow: `postgresql://…`; empty: SQLite in the home."""

    prefect_database_url: str = ""
    """Records of the home's own Prefect: `postgresql://…`; empty: SQLite in the home."""

    witness: str = ""
    """Who else records how far the ledger goes; empty: nobody.

    A file that this account may only append to, or an http(s) address.
    """

    notify: str = ""
    """Where results and alarms are sent: addresses of Apprise, separated by spaces.

    Empty: they are only written to `notices.jsonl` in the home.
    """

    doorbell_url: str = ""
    """Where an MLflow on another machine can ring the controller: `https://…/doorbell`.

    Empty: only an MLflow on this machine rings; elsewhere the controller looks by its timer.
    """

    doorbell_port: int = 0
    """The port of the doorbell on this machine, for a proxy before it; 0: any free one."""

    host_names: str = ""
    """Names by which clients call the endpoint, as behind a proxy; separated by commas.

    `localhost` and the endpoint's own address need not be named.
    """

    api_keys: str = ""
    """`required`: the endpoint asks for an API key though none was made yet.

    Empty: it asks once there is a key, and always where it listens beyond this machine.
    """

    answer_cache_mb: str = "0"
    """Megabytes of answers that the endpoint keeps for requests that are repeated; 0: none."""

    allowed_origins: str = ""
    """Origins of pages whose programs may call the endpoint: `https://chat.example`, …"""

    tls_certificate: str = ""
    """A PEM file with the certificate of the endpoint and those that lead to it; empty: no TLS."""

    tls_key: str = ""
    """The PEM file with the key of that certificate, without a password."""

    harness_python: Path | None = None
    """A Python that has lm-evaluation-harness, for `assay lm-eval`; None: this one."""
    replica: str = ""
    """The name of this endpoint among the replicas of one ledger on PostgreSQL; empty: it is none.

    No other replica has it; under Kubernetes that is the pod's name.
    """

    unready_after: str = "0"
    """Seconds without following the ledger after which `/readyz` says no, 5 to 120; 0: never."""

    spare_engines: str = "1"
    """How many engine processes the endpoint keeps ready for the next release, 0 to 8.

    Each takes about 400 MB of memory. A text: a mistake in it concerns the endpoint alone, and
    must not keep a command from rolling back.
    """

    unload_after: str = "0"
    """Seconds without a request after which an engine is unloaded, 30 to 604800; 0: never.

    A text, as `spare_engines` is.
    """

    engine: str = ""
    """What computes answers: `transformers`, `openvino` or `vllm`.

    Empty: OpenVINO where it is installed, transformers elsewhere. A text, as `spare_engines` is.
    """

    vllm_python: Path | None = None
    """A Python that has vLLM, for the engine of that name; None: there is none."""

    metrics_address: str = ""
    """Where `/metrics` is answered: `HOST:PORT`, or `off`; empty: on the endpoint's own port."""

    endpoint_rules: str = ""
    """A YAML file: what the endpoint records, guards and falls back to; empty: none of it."""

    traces: str = ""
    """Where spans of requests are sent: `http(s)://…/v1/traces`; empty: nowhere."""

    handoff_url: str = ""
    """A webhook that hands requests to a person, where the endpoint's rules say so."""
