"""Serve a base model, and an adapter on it.

python -m serving --base-folder DIR --base-manifest FILE [--package DIR]
python -m serving --base-folder DIR --base-manifest FILE --shared --adapted-like DIR
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ServingError
from core.lifetime import end_with_the_run
from core.log import exit_code, say
from core.ready import ready_line
from pipelines.values.engine_name import ENGINE_NAMES
from pipelines.values.precision import PRECISIONS
from serving.garbage import leave_out_of_search
from serving.load import EngineConfig, base_model_name, load_engine
from serving.owner import Owner, OwnerOnlyApp, Ownership
from serving.spare import FLAG, wait_for_instructions

if TYPE_CHECKING:
    from fastapi import FastAPI


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C: exit code 0 then, 1 after an error."""
    return exit_code(lambda: run(arguments))


def run(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, with errors for the caller."""
    # Weights come from a folder: there is no reason to ask the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # A log is no place for progress bars.
    os.environ.setdefault("TQDM_DISABLE", "1")
    words = sys.argv[1:] if arguments is None else arguments
    if FLAG in words:
        _serve_when_told()
        return
    options = _parser().parse_args(words)
    end_with_the_run()
    ownership = Ownership.from_stdin() if options.owned else None
    _serve(options, ownership)


def _serve_when_told() -> None:
    """Serve what the endpoint says, once it says it: the longest part is done by then."""
    end_with_the_run()
    instructions = wait_for_instructions()
    parser = _parser()
    options = parser.parse_args(instructions.arguments)
    _serve(options, instructions.ownership)


def _serve(options: argparse.Namespace, ownership: Ownership | None) -> None:
    # Imported here: these load a web server, and `--help` should not wait for it.
    from serving.listen import format_url, open_socket, serve_on

    losses: list[str] = []

    def end_by(loss: str) -> None:
        losses.append(loss)
        # As whoever ends this process does: what is answered gets its end first.
        os.kill(os.getpid(), signal.SIGTERM)

    owner = None if ownership is None else Owner(ownership)
    if owner is not None:
        owner.watch()
    listener = open_socket(options.host, options.port)
    with listener:
        loaded = _load_shared(options) if options.shared else _load(options, end_by)
        if ownership is not None and owner is not None:
            loaded.app.add_middleware(OwnerOnlyApp, token=ownership.token, owner=owner)
        # The socket has been listening since before the weights were loaded, so whoever reads
        # this line can connect.
        line = ready_line(loaded.what, f"{format_url(listener)}{loaded.path}")
        # Nobody waits for an answer yet.
        leave_out_of_search()
        try:
            serve_on(loaded.app, listener, lambda: say(line, sys.stdout))
        finally:
            loaded.close()
    # Whoever started this process waits for its end, and starts another one.
    for loss in losses:
        raise ServingError(loss)


@dataclass(frozen=True)
class _Loaded:
    """What is served, and how the ready line names it."""

    app: "FastAPI"
    what: str
    # Of the address that the line says.
    path: str
    close: Callable[[], None]


def _load(options: argparse.Namespace, when_lost: Callable[[str], None]) -> _Loaded:
    from serving.app import create_app

    config = replace(_engine_config(options), when_lost=when_lost)
    engine = load_engine(config)
    specs = engine.specs.items()
    names = " and ".join(f"{name} ({spec.fingerprint})" for name, spec in specs)
    what = f"a preview and no release, {names}" if options.preview else names
    return _Loaded(create_app(engine), what, "/v1", engine.close)


def _load_shared(options: argparse.Namespace) -> _Loaded:
    from serving.load_shared import SharedConfig, load_shared
    from serving.shared_app import create_shared_app

    if options.adapted_like is None:
        raise ServingError(
            "--shared needs --adapted-like, a package whose layers adapters may change."
        )
    config = SharedConfig(
        base_folder=options.base_folder,
        base_manifest=options.base_manifest,
        adapted_like=options.adapted_like,
        precision=options.precision,
        engine=options.engine,
        has_stand_in=not options.no_stand_in,
    )
    shared = load_shared(config)
    what = f"{base_model_name(shared.base)} for releases"
    return _Loaded(create_shared_app(shared), what, "", shared.close)


def _engine_config(options: argparse.Namespace) -> EngineConfig:
    return EngineConfig(
        base_folder=options.base_folder,
        base_manifest=options.base_manifest,
        package=options.package,
        model_name=options.model_name,
        precision=options.precision,
        default_max_tokens=options.default_max_tokens,
        engine=options.engine,
        has_stand_in=not options.no_stand_in,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve a base model, and an adapter on it, as OpenAI's API does.",
    )
    parser.add_argument(
        "--base-folder", type=Path, required=True, help="the base model's folder"
    )
    parser.add_argument(
        "--base-manifest",
        type=Path,
        required=True,
        help="its manifest.json, as stage base_model writes it",
    )
    parser.add_argument(
        "--package",
        type=Path,
        help="folder of a registered version; without it the base alone is served",
    )
    parser.add_argument(
        "--model-name",
        default="tuned",
        help="name under which the adapter answers (default: tuned)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="default: as it was scored"
    )
    parser.add_argument(
        "--default-max-tokens",
        type=int,
        help="longest answer where a request sets none (default: as it was scored)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINE_NAMES,
        help="what computes answers (default: what scored, and transformers for a base alone)",
    )
    parser.add_argument(
        "--no-stand-in",
        action="store_true",
        help="end where that engine does not take the base, instead of using transformers "
        "(what another engine scored never uses it so)",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="load the base alone, and take releases with PUT /releases/{package_sha256}",
    )
    parser.add_argument(
        "--adapted-like",
        type=Path,
        help="with --shared: a package; releases may change the layers that its adapter changes",
    )
    parser.add_argument(
        "--preview", action="store_true", help="say that this is no release"
    )
    parser.add_argument(
        "--owned",
        action="store_true",
        help="answer one endpoint alone, which says its token on stdin",
    )
    parser.add_argument(
        FLAG,
        action="store_true",
        help="import everything, then wait until an endpoint says the rest on stdin",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one and prints it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
