"""The meta learner: a small network that says how much each negative counts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mebns_pl.models.layers import check_width

INPUTS = ("loss", "hardness")
"""What a step tells of each negative: the student's loss, the teacher's logit."""


class WeightNet(nn.Module):
    """Scores negatives for the weighted loss (after Meta-Weight-Net, 1902.07379, section 2.2).

    The loss takes the softmax of the scores over the union batch (:func:`mebns_pl.mebns.step.negative_weights`).
    Scores are bounded, so that no few negatives can take all the weight: two weights differ by a factor of ``exp(2
    max_score)`` at most. Inputs are compressed by ``sign(f) log(1 + |f|)``, since losses and logits grow without
    bound as a student learns. The last layer starts at zero, so that training starts from equal weights.

    Args:
        inputs: what it looks at, of ``loss`` (the student's) and ``hardness`` (the teacher's logit).
        hidden_channels: width of the hidden layer.
        max_score: bound on the scores, above 0. Left to itself the meta learner turns to the hardest negatives: the
            student's hard set then moves more, and its validation MRR falls (docs/quality.md).

    Raises:
        ValueError: ``max_score`` is not above 0; ``inputs`` is empty, or names something else.

    Example:
        >>> import torch
        >>> WeightNet()(torch.randn(5, 2)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, inputs: Sequence[str] = INPUTS, hidden_channels: int = 64, max_score: float = 0.1) -> None:
        super().__init__()
        if not inputs or set(inputs) - set(INPUTS):
            raise ValueError(f"inputs: expected some of {', '.join(INPUTS)}, got {inputs and list(inputs)}")
        check_width(hidden_channels, 0, 2)
        if not max_score > 0:
            raise ValueError(f"max_score: expected a number above 0, got {max_score}")
        self.max_score = max_score
        self.columns = [INPUTS.index(name) for name in inputs]
        self.hidden = nn.Linear(len(self.columns), hidden_channels)
        self.last = nn.Linear(hidden_channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(M,)`` in (-max_score, max_score) from ``features`` ``(M, 2)``, the columns of ``INPUTS``."""
        features = features[:, self.columns]
        compressed = features.sign() * features.abs().log1p()
        scores: Tensor = self.last(self.hidden(compressed).relu()).squeeze(1)
        return self.max_score * (scores / self.max_score).tanh()
