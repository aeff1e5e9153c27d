"""What `judge` answered, as it is kept beside the ledger under its digest."""

import json

from pydantic import TypeAdapter, ValidationError

from core.errors import BrokenLedger
from pipelines.values.verdict import Finding
from registry.ledger.ledger import Ledger

_FINDINGS = TypeAdapter(tuple[Finding, ...])


def recorded_findings(ledger: Ledger, sha256: str) -> tuple[Finding, ...]:
    """Every rule's finding; none where the text was erased, edited or is no verdict."""
    try:
        text = ledger.recall(sha256)
    except BrokenLedger:
        return ()
    if text is None:
        return ()
    # A text of an older form may lack them: it is shown to people and decides nothing.
    try:
        return _FINDINGS.validate_python(json.loads(text)["findings"])
    except (ValueError, TypeError, KeyError, ValidationError):
        return ()
