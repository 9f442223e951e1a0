"""The meta learner: a small network that says how much each negative counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mebns_pl.checks import above
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.mebns.losses.abstract import at_least_single
from mebns_pl.mebns.weight_inputs import check_inputs
from mebns_pl.models.layers import check_width

DEFAULT_INPUTS = ("loss", "hardness", "rank", "gap", "log_degree")


class WeightNet(nn.Module):
    """Scores negatives for the weighted loss (after Meta-Weight-Net, 1902.07379, section 2.2).

    The loss takes the softmax of the scores over the union batch, added to the logarithm of the starting weights
    (:func:`mebns_pl.mebns.step.negative_weights`). Scores are centered and bounded, so that no few negatives can take
    all the weight: two learned factors differ by ``exp(2 max_score)`` at most. Without the centering all scores could
    drift to the same end of the bound, where they are equal and their gradients 0. Inputs come standardised over the
    union batch, and are compressed by ``sign(f) log(1 + |f|)``. The last layer starts at zero, so that training starts
    from the starting weights.

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
        self.last = nn.Linear(hidden_channels, 1, bias=False)  # the centering would take a bias off again
        nn.init.zeros_(self.last.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs ``(M,)``, neither centered nor bounded, from ``features`` ``(M, len(inputs))``."""
        # Column by column: of few inputs and many rows the products, and most of all the weights' gradients, are twice
        # as fast so on a CPU
        columns = (features.sign() * features.abs().log1p()).t().contiguous()
        columns = torch.relu(torch.addmm(self.hidden.bias[:, None], self.hidden.weight, columns))
        return (self.last.weight @ columns).flatten()

    def bounded(self, outputs: Tensor, mask: Tensor, num_negatives: Tensor, group: AbstractGroup) -> Tensor:
        """Scores ``(M,)`` in (-max_score, max_score), differentiated through.

        Args:
            outputs: ``(M,)``, this rank's.
            mask: ``(M,)`` bool; False is no part of the mean that is taken off.
            num_negatives: ``()``, how many negatives all ranks have, at least 1.
            group: the ranks.
        """
        outputs = at_least_single(outputs)
        mean = group.sum(torch.where(mask, outputs, 0).sum()) / num_negatives
        return self.max_score * ((outputs - mean) / self.max_score).tanh()
