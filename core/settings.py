"""Where Assay runs: the environment, never what changes a result."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables `ASSAY_…`; one that is set to nothing is one that is not set."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", extra="ignore", env_ignore_empty=True
    )

    home: Path = Path(".assay")
    """Everything that Assay keeps outside git: cache, scratch, worktrees, base models, MLflow's database."""
    user: str = ""
    """Who acts, as the ledger records it; empty: the login name."""

    ledger_url: str = ""
    """Where the ledger is: `postgresql://…`; empty: SQLite in the home."""

    witness: str = ""
    """Who is told how far the ledger goes: a file that this account may only append to, or an http(s) address; empty: nobody."""

    notify: str = ""
    """Where results and alarms are sent: addresses of Apprise, separated by spaces; empty: only `notices.jsonl` in the home."""

    host_names: str = ""
    """Names by which clients call the endpoint besides `localhost` and its address, as behind a proxy; separated by commas."""
