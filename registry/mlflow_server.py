"""MLflow's server over the database of a home, with its users: `python -m registry.mlflow_server --home DIR --port N`.

Artifacts lie where the command line without a server puts them, so that either finds what the other made.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

from registry.accounts import make_accounts, write_settings
from registry.private_file import secret


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from pipelines.__main__ import end_with_the_run

    parser = argparse.ArgumentParser(prog="python -m registry.mlflow_server")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    end_with_the_run()
    home = options.home.resolve()
    os.environ.update(_settings(home))
    _prepare(home)
    return _serve(home, options.port)


def _settings(home: Path) -> dict[str, str]:
    """What MLflow reads when it is imported: hence before the import."""
    return {
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(write_settings(home)),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret(home / "keys/mlflow-sessions", lambda: secrets.token_hex(32)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secret(home / "keys/mlflow-webhooks", _fernet_key),
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _prepare(home: Path) -> None:
    from registry.store import Store

    make_accounts(home)
    # Asking for a run makes the experiment where there is none, with its artifacts where the command line puts them.
    Store(_database(home), home / "leases").runs.find("0" * 64)


def _serve(home: Path, port: int) -> int:
    from mlflow.cli import cli

    here = ("127.0.0.1", "localhost")
    command = ["server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", _database(home), "--default-artifact-root", (home / "mlflow-artifacts").as_uri()]
    command += ["--no-serve-artifacts", "--allowed-hosts", ",".join(f"{name}:{port}" for name in here)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in here)]
    cli.main(command, standalone_mode=False)
    return 0


def _database(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
