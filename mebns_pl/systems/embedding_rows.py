"""Tables of learned embeddings (a row for every node) whose rows are trained only where a batch has met them.

Neighbour batches work so: no step touches the whole table. To the lookahead of the bilevel step a table is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, SparseAdam


def table_optimizer(like: Optimizer, tables: Sequence[nn.Parameter]) -> Optimizer:
    """An optimizer of the same kind and learning rate that moves the rows which have a gradient, and no others.

    SGD remains SGD. Adam and AdamW become ``torch.optim.SparseAdam``: a row's moments stand still while it has no
    gradient, so the first step equals Adam's and later ones differ where rows come now and then.

    Args:
        like: the optimizer of the other parameters.
        tables: ``(N, C)`` each, with sparse gradients.

    Raises:
        ValueError: another kind of optimizer; weight decay or momentum, which move every row in every step.
    """
    options = like.param_groups[0]
    everywhere = {name: options[name] for name in ("weight_decay", "momentum") if options.get(name)}
    if everywhere:
        ((name, value), *_) = everywhere.items()
        raise ValueError(f"optimizer: {name} moves every row of an embedding table; it must be 0, got {value}")
    if type(like) is SGD:
        return SGD(tables, lr=options["lr"], maximize=options["maximize"])
    if type(like) in (Adam, AdamW):
        return SparseAdam(
            tables, lr=options["lr"], betas=options["betas"], eps=options["eps"], maximize=options["maximize"]
        )
    raise ValueError(
        f"optimizer: tables of learned embeddings are trained row by row by SGD, Adam, AdamW, got {type(like).__name__}"
    )
