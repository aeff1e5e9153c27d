"""Where Assay runs: the environment, never what changes a result."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables `ASSAY_…`."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="ignore")

    home: Path = Path(".assay")
    """Everything that Assay keeps outside git: cache, scratch, worktrees, base models, MLflow's database."""
