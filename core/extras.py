"""Libraries that Assay brings only where they are asked for, and which extra has each.

`assay[all]` has those of `PARTS` (docs/decisions/0019). A command that lacks one names it.
"""

from collections.abc import Mapping

PARTS = ("train", "serve", "flows", "mlflow-plugin")
_OF_BOTH = ("train", "serve")
_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "accelerate": ("train",),
    "bm25s": ("train",),
    "charset_normalizer": ("train",),
    "datasets": ("train",),
    "defusedxml": ("train",),
    "evaluate": ("train",),
    "fairlearn": ("train",),
    "gguf": ("train",),
    "great_expectations": ("train",),
    "jsonschema": ("train",),
    "openpyxl": ("train",),
    "pandas": ("train",),
    "pyarrow": ("observe", "train"),
    "sacrebleu": ("train",),
    "scipy": ("train",),
    "trl": ("train",),
    # Training and the endpoint load the same models.
    "jinja2": _OF_BOTH,
    "model_signing": _OF_BOTH,
    "numpy": _OF_BOTH,
    "peft": _OF_BOTH,
    "safetensors": _OF_BOTH,
    "torch": _OF_BOTH,
    "transformers": _OF_BOTH,
    "fastapi": ("serve",),
    "h11": ("serve",),
    "limits": ("serve",),
    "llguidance": ("serve",),
    "starlette": ("serve",),
    "prometheus_client": ("serve",),
    "regex": ("serve",),
    "uvicorn": ("serve",),
    "opentelemetry": ("observe",),
    "dvc": ("flows",),
    "prefect": ("flows",),
    # The records of runs and versions.
    "flask": ("flows",),
    "mlflow": ("flows",),
    "nicegui": ("playground",),
    "openvino": ("openvino",),
    "psycopg": ("postgres",),
}
"""By the module that is imported."""


def describe_missing(error: ModuleNotFoundError) -> str | None:
    """Which extra brings what is missing, in one sentence; None where none does."""
    name = error.name or ""
    module = name.partition(".")[0]
    extras = _EXTRAS.get(module)
    if extras is None:
        return None
    ways = " or ".join(f"`pip install 'assay[{extra}]'`" for extra in extras)
    is_in_all = any(extra in PARTS for extra in extras)
    more = "; `assay[all]` has it too" if is_in_all else ""
    return f"This needs {module}, which is not installed here: {ways}{more}."
