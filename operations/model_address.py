"""`models:/NAME/N` and `models:/NAME@alias`: how MLflow names a registered version."""

import re

from core.errors import ParameterError
from core.value import Value
from registry.ledger.entries import MODEL_NAME

_NAME = MODEL_NAME.strip("^$")
_NUMBER = "[1-9][0-9]{0,8}"
# What MLflow takes as the name of an alias.
_ALIAS = "[A-Za-z0-9_][A-Za-z0-9_-]{0,99}"
_ADDRESS = re.compile(
    f"models:/(?P<name>{_NAME})(?:/(?P<number>{_NUMBER})|@(?P<alias>{_ALIAS}))"
)
_LONGEST_SHOWN = 60
_FORM = "Give models:/NAME/NUMBER or models:/NAME@ALIAS, as models:/support/3"


class ModelAddress(Value):
    """A registered version: by its number, or by an alias that begins with `@`."""

    name: str
    version: str


def parse_model_address(text: str) -> ModelAddress:
    """Read an address; `ParameterError` where it names no single version of a model.

    Nothing of it becomes part of a path or of a request before it is checked here.
    """
    found = _ADDRESS.fullmatch(text)
    # A name may hold dots; two in a row mean the folder above wherever paths are read.
    if found is None or ".." in text:
        # Letters of other alphabets look like these: spelt out, they do not.
        shown = ascii(text)
        if len(shown) > _LONGEST_SHOWN:
            shown = f"{shown[:_LONGEST_SHOWN]}…"
        raise ParameterError(
            f"{shown} names no version of a registered model. {_FORM}."
        )
    number = found["number"]
    alias = found["alias"]
    return ModelAddress(
        name=found["name"],
        version=number or f"@{alias}",
    )
