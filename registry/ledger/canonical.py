"""One text for each JSON document, so that everybody who hashes an entry gets the same digest.

Entries are written in the form of RFC 8785 (JCS). Entries from before that were written in Python's
form of the same document, and still verify (docs/decisions/0013-entries-are-hashed-as-rfc-8785.md).
"""

import codecs
import json
from typing import Any

import rfc8785

from core.errors import LedgerError

# `rfc8785` sorts keys in this encoding. It is loaded now, since a process that becomes another user
# later may not read Python's own files.
codecs.lookup("utf-16be")
LARGEST_INTEGER = 2**53 - 1
"""Beyond it RFC 8785 has no form: a reader that holds numbers as doubles would round them."""


def canonical_json(document: dict[str, Any]) -> str:
    """Write a document as RFC 8785 says.

    `LedgerError` where there is no such form: an integer beyond `LARGEST_INTEGER`, or text that is
    not Unicode. An example: `{"b": 1.0, "a": "é"}` gives `{"a":"é","b":1}`.
    """
    try:
        # The library gives bytes; a row of the database is text.
        return rfc8785.dumps(document).decode()
    except rfc8785.CanonicalizationError as error:
        raise LedgerError(
            f"The entry cannot be written, since it has no canonical JSON ({error})."
            f" Numbers may reach {LARGEST_INTEGER}: correct the one that is larger."
        ) from error


def earlier_json(document: dict[str, Any]) -> str:
    """Write a document as Assay did before.

    It has `1.0` and `1e-05` where RFC 8785 has `1` and `0.00001`, and any integer.
    """
    # Never change these arguments: signed entries depend on every byte of the result.
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def accepted_forms(document: dict[str, Any]) -> tuple[str, ...]:
    """Write a document in each form whose digest verifies.

    RFC 8785 comes first, where it has a form; the earlier one is last.
    """
    earlier = earlier_json(document)
    try:
        return canonical_json(document), earlier
    except LedgerError:
        # Only an entry from before can hold such a number: none is written any more.
        return (earlier,)
