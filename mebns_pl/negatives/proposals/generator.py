"""Candidates from a generator that learns to find what the student scores high."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mebns_pl.checks import above, at_least
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, Gather, Score
from mebns_pl.negatives.row_draws import fractions, legal_nodes
from mebns_pl.types import GraphSpec

_BETAS, _EPS = (0.9, 0.999), 1e-8
_MOMENTUM = 0.9
"""Of the baseline: the moving mean of rewards."""


class GeneratorProposal(AbstractAdaptiveProposal):
    """Draws of a generator that learns, by REINFORCE, which nodes of a pool the student scores high (KBGAN).

    ``p(v | u) = softmax_v g(u, v)`` over ``pool`` uniform legal nodes, with ``g(u, v) = e_u . e_v + b_v`` and learned
    embeddings e and biases b. The reward r of a candidate is the student's logit, and the generator ascends
    ``mean (r - baseline) grad log p(v | u)`` by Adam; the baseline is a moving mean of earlier rewards. Candidates are
    drawn with replacement.

    Cai and Wang, *KBGAN: Adversarial Learning for Knowledge Graph Embeddings*, NAACL 2018, arXiv 1711.04071, algorithm
    1; after Wang et al., *IRGAN*, SIGIR 2017.

    Cost: memory 12 N ``(channels + 1)`` bytes; a step takes O(``pool channels``) an anchor, scores K nodes an anchor
    with the student, and moves all N embeddings.

    Args:
        pool: uniform nodes the generator chooses from, at least 1; the paper's N_s.
        channels: length of the embeddings, at least 1.
        lr: learning rate of Adam, above 0.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=6)
        >>> proposal, anchors = GeneratorProposal(channels=4), torch.tensor([0, 5])
        >>> proposal.build(graph.spec)
        >>> proposal.start(graph, KnownEdges(graph), Key(0, "docs"))
        >>> proposal.propose(anchors, torch.arange(2), 3, lambda nodes: nodes.float(), Key(0, "docs")).shape
        torch.Size([2, 3])
    """

    def __init__(self, pool: int = 20, channels: int = 64, lr: float = 0.001) -> None:
        super().__init__()
        at_least(1, pool=pool, channels=channels)
        above(0, lr=lr)
        self.pool, self.channels, self.lr = pool, channels, lr

    def build(self, spec: GraphSpec) -> None:
        """Embeddings of every node, and the state of Adam."""
        table = torch.zeros(spec.num_nodes, self.channels + 1)  # the bias is the last column
        nn.init.normal_(table[:, :-1], std=self.channels**-0.5)
        self.table = nn.Parameter(table)
        self.mean, self.square = nn.Buffer(torch.zeros_like(table)), nn.Buffer(torch.zeros_like(table))
        self.steps, self.baseline = nn.Buffer(torch.zeros((), dtype=torch.int64)), nn.Buffer(torch.zeros(()))

    def propose(self, anchors: Tensor, rows: Tensor, num_candidates: int, score: Score, key: Key) -> Tensor:
        """See :meth:`AbstractAdaptiveProposal.propose`; scores are not asked for."""
        pool, columns = self._draw(anchors, rows, num_candidates, key)
        return pool.gather(1, columns)

    def update(self, anchors: Tensor, rows: Tensor, candidates: Tensor, score: Score, gather: Gather, key: Key) -> None:
        """See :meth:`AbstractAdaptiveProposal.update`."""
        pool, columns = self._draw(anchors, rows, candidates.shape[1], key)
        reward = score(candidates).to(self.baseline)
        legal = (~self.known.mask(anchors[:, None], candidates)).to(reward)
        # From here on every rank does the same with the whole union batch
        anchors, pool, columns, legal, reward = map(gather, (anchors, pool, columns, legal, reward))
        count = legal.sum().clamp_min(1)
        mean_reward = (reward * legal).sum() / count
        baseline = torch.where(self.steps == 0, mean_reward, self.baseline)
        advantage = (reward - baseline) * legal
        with torch.enable_grad():
            log_probs = self._logits(anchors, pool).log_softmax(dim=1).gather(1, columns)
            (grad,) = torch.autograd.grad(-(advantage * log_probs).sum() / count, [self.table])
        self._descend(grad)
        self.baseline.copy_(_MOMENTUM * baseline + (1 - _MOMENTUM) * mean_reward)

    def _draw(self, anchors: Tensor, rows: Tensor, num_candidates: int, key: Key) -> tuple[Tensor, Tensor]:
        """The pool ``(b, pool)`` and the drawn places in it ``(b, K)``; the same key gives the same."""
        pool = legal_nodes(self.known, anchors, rows, self.pool, key.child("pool"))
        with torch.no_grad():
            cumulated = self._logits(anchors, pool).double().softmax(dim=1).cumsum(dim=1)
        height = fractions(key.child("draw"), rows, num_candidates) * cumulated[:, -1:]
        return pool, torch.searchsorted(cumulated, height, right=True).clamp_max(self.pool - 1)

    def _logits(self, anchors: Tensor, nodes: Tensor) -> Tensor:
        """G ``(b, C)``."""
        # Not by indexing: on a CPU its derivative adds in the order in which threads come along
        table, own = embedding(nodes, self.table), embedding(anchors, self.table)[:, None, :-1]
        return (own * table[..., :-1]).sum(dim=2) + table[..., -1]

    @torch.no_grad()
    def _descend(self, grad: Tensor) -> None:
        """One step of Adam (Kingma and Ba, ICLR 2015), whose state is in the buffers."""
        self.steps.add_(1)
        self.mean.lerp_(grad, 1 - _BETAS[0])
        self.square.lerp_(grad * grad, 1 - _BETAS[1])
        times = self.steps.double()
        mean = self.mean / (1 - _BETAS[0] ** times)
        square = self.square / (1 - _BETAS[1] ** times)
        self.table.sub_(self.lr * mean / (square.sqrt() + _EPS))
