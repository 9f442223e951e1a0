"""The losses of single pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def at_least_single(values: Tensor) -> Tensor:
    """Half precision, which autocast gives, as float32: a sum of bfloat16 cannot count to a batch's size."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def positive_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of edges, elementwise: ``log(1 + exp(-logit))``."""
    return functional.softplus(-at_least_single(logits))


def negative_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of non-edges, elementwise: ``log(1 + exp(logit))``."""
    return functional.softplus(at_least_single(logits))
