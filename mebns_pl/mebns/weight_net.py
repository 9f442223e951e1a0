"""The meta learner: a small network that says how much each negative counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mebns_pl.checks import above
from mebns_pl.mebns.weight_inputs import check_inputs
from mebns_pl.models.layers import check_width

DEFAULT_INPUTS = ("loss", "hardness", "rank", "gap", "log_degree")


class WeightNet(nn.Module):
    """Scores negatives for the weighted loss (after Meta-Weight-Net, 1902.07379, section 2.2).

    The loss takes the softmax of the scores over the union batch, added to the logarithm of the starting weights
    (:func:`mebns_pl.mebns.step.negative_weights`). Scores are bounded, so that no few negatives can take all the
    weight: two learned factors differ by ``exp(2 max_score)`` at most. Inputs come standardised over the union batch,
    and are compressed by ``sign(f) log(1 + |f|)``. The last layer starts at zero, so that training starts from the
    starting weights.

    Args:
        inputs: what it looks at, names of :data:`mebns_pl.mebns.weight_inputs.INPUTS`.
        hidden_channels: width of the hidden layer.
        max_score: bound on the scores, above 0.

    Raises:
        ValueError: ``max_score`` is not above 0; ``inputs`` is empty, or names something else.

    Example:
        >>> import torch
        >>> WeightNet(["loss", "rank"])(torch.randn(5, 2)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self, inputs: Sequence[str] = DEFAULT_INPUTS, hidden_channels: int = 64, max_score: float = 0.3
    ) -> None:
        super().__init__()
        check_inputs(inputs)
        check_width(hidden_channels, 0, 2)
        above(0, max_score=max_score)
        self.max_score = max_score
        self.inputs = tuple(inputs)
        self.hidden = nn.Linear(len(self.inputs), hidden_channels)
        self.last = nn.Linear(hidden_channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(M,)`` in (-max_score, max_score) from ``features`` ``(M, len(inputs))``."""
        # Column by column: of few inputs and many rows the products, and most of all the weights' gradients, are twice
        # as fast so on a CPU
        columns = (features.sign() * features.abs().log1p()).t().contiguous()
        for layer, activation in ((self.hidden, torch.relu), (self.last, torch.flatten)):
            columns = activation(torch.addmm(layer.bias[:, None], layer.weight, columns))
        return self.max_score * (columns / self.max_score).tanh()
