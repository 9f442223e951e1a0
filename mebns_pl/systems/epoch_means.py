"""Means over an epoch that a checkpoint within the epoch can hold; Lightning's own are lost when a run is stopped."""

from __future__ import annotations

import torch
from torch import Tensor


class EpochMeans:
    """Sums and counts of what is logged as a mean over the epoch.

    Added up as Lightning does, so that the means are the same to the last bit.

    Example:
        >>> means = EpochMeans()
        >>> means.add("loss", 1.0)
        >>> means.add("loss", torch.tensor(2.0))
        >>> means.compute()
        {'loss': tensor(1.5000)}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Adds a value ``()`` of one step; whole numbers count as floating point ones."""
        value = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
        value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
        self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def compute(self) -> dict[str, Tensor]:
        """The means so far, ``()`` by name, in the order they came up."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, dict[str, Tensor] | dict[str, int]]:
        """Sums and counts so far."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state_dict: dict[str, dict[str, Tensor] | dict[str, int]]) -> None:
        """Takes them back."""
        self._sums = {name: torch.as_tensor(value) for name, value in state_dict["sums"].items()}
        self._counts = {name: int(value) for name, value in state_dict["counts"].items()}
