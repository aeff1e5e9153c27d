"""The library itself, which is an extra of its own."""

import sys
from typing import Any

from pipelines.engines import NotTaken

_TELEMETRY = "openvino_telemetry"


def load_library() -> Any:
    """Import OpenVINO, without what reports its use; `NotTaken` where it is not installed."""
    # The import itself would send an event to its maker, and nobody asked the person who serves.
    # None makes the import of that package fail, and OpenVINO goes on without it.
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise NotTaken(
            "openvino is not installed here: `pip install 'assay[openvino]'`"
        ) from error
    return openvino
