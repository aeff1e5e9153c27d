"""MLflow's server over the database of a home, with its users: `python -m registry.mlflow.server --home DIR --port N`.

Artifacts lie where the command line without a server puts them, so that either finds what the other made. What Assay recorded is
changed by the service account alone (`registry/mlflow/guard.py`).
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

from core.private_file import secret
from registry.mlflow.accounts import make_accounts, write_settings


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from core.lifetime import end_with_the_run
    from core.logs import keep_secrets_out_of_logs

    keep_secrets_out_of_logs()
    parser = argparse.ArgumentParser(prog="python -m registry.mlflow.server")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    end_with_the_run()
    home = options.home.resolve()
    os.environ.update(_settings(home, options.port))
    _prepare(home)
    return _serve(options.port)


def _settings(home: Path, port: int) -> dict[str, str]:
    """What MLflow reads when it is imported: hence before the import.

    The names that begin with an underscore are how `mlflow server` tells its workers; this process is the worker.
    """
    here = tuple(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    return {
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(write_settings(home)),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_ENABLE_WORKSPACES": "false",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret(
            home / "keys/mlflow-sessions", lambda: secrets.token_hex(32)
        ),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(here),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            f"http://{name}" for name in here
        ),
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secret(
            home / "keys/mlflow-webhooks", _fernet_key
        ),
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",  # by make_accounts
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (home / "mlflow-artifacts").as_uri(),
        "_MLFLOW_SERVER_BOOT_ID": secrets.token_hex(16),
        "_MLFLOW_SERVER_FILE_STORE": _database(home),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _prepare(home: Path) -> None:
    from registry.mlflow.guard import install
    from registry.mlflow.store import Store

    install()
    make_accounts(home)
    # Asking for a run makes the experiment where there is none, with its artifacts where the command line puts them.
    Store(_database(home), home / "leases").runs.find("0" * 64)


def _serve(port: int) -> int:
    import mlflow.server
    import uvicorn

    from registry.mlflow.guard import guarded_app

    log_config = str(Path(mlflow.server.__file__).with_name("uvicorn_log_config.yaml"))
    uvicorn.run(
        guarded_app(),
        host="127.0.0.1",
        port=port,
        log_config=log_config,
        timeout_graceful_shutdown=10,
    )
    return 0


def _database(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
