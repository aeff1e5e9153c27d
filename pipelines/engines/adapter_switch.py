"""An adapter on its base, switched off for requests to the base."""

from typing import Any


class AdapterSwitch:
    """The adapter of a model, on until it is switched off.

    peft walks over every layer to do so, which takes milliseconds: only where it changes something.
    """

    def __init__(self, model: Any, *, has_adapter: bool) -> None:
        self._model = model
        self._has_adapter = has_adapter
        self._is_on = True

    def turn(self, *, on: bool) -> None:
        """Have the next forward use the adapter, or the base alone."""
        is_right = on == self._is_on
        if is_right or not self._has_adapter:
            return
        layers = self._model.base_model
        if on:
            layers.enable_adapter_layers()
        else:
            layers.disable_adapter_layers()
        self._is_on = on
