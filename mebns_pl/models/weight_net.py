"""The meta learner: a small network that says how much each negative counts."""

from __future__ import annotations

from torch import Tensor, nn


class WeightNet(nn.Module):
    """Scores negatives for the weighted loss (after Meta-Weight-Net, 1902.07379, section 2.2).

    The loss normalises the scores over the union batch (see :func:`mebns_pl.mebns.step.negative_weights`). The last
    layer starts at zero, so that training starts from equal weights.

    Args:
        num_features: F, width of the input: the student's loss and the teacher's logit.
        hidden_channels: width of the hidden layer.

    Example:
        >>> import torch
        >>> WeightNet()(torch.randn(5, 2)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, num_features: int = 2, hidden_channels: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, hidden_channels)
        self.last = nn.Linear(hidden_channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(M,)`` from ``features`` ``(M, F)``, both unbounded floats."""
        return self.last(self.hidden(features).relu()).squeeze(1)  # type: ignore[no-any-return]
