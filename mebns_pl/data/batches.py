"""What the loaders hand out. One item is one whole step, so that loader workers prepare steps ahead.

Every item is a function of its index and a key; nothing depends on the order in which workers get to it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler, get_worker_info

from mebns_pl.data.needs import Needs
from mebns_pl.data.train_batch import StepPairs, TrainBatch
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key, permutation
from mebns_pl.negatives.candidates import drawn_ahead
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.pools.abstract import pairs_of
from mebns_pl.pools.built import PairPool
from mebns_pl.types import EvalBatch, Share

EVAL_PAIRS = 2**17
"""Pairs scored in one go in evaluation and prediction: bounds their memory."""


class _Written:
    """An item as it was when this was made; unpickling gives the item."""

    def __init__(self, item: Any) -> None:
        self._bytes = bytes(ForkingPickler.dumps(item))

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._bytes,)


def handed_out(item: Any) -> Any:
    """What a loader's ``collate_fn`` makes of an item: in a worker, it is written down before the next one is drawn.

    A worker pickles items in a thread of its own, which moves their tensors to shared memory and frees where they were.
    An item may hold a tensor that the next one is drawn from, such as the graph's. Written down here, it moves while
    nothing reads it, and only once.

    Example:
        >>> handed_out(torch.arange(2))  # not in a worker
        tensor([0, 1])
    """
    return item if get_worker_info() is None else _Written(item)


class StepSampler(SequentialSampler):
    """Yields (epoch, step) for each step of an epoch; Lightning tells it the epoch, and need put no other in its place.

    Args:
        num_steps: steps of an epoch.

    Example:
        >>> sampler = StepSampler(3)
        >>> sampler.go_on(epoch=1, step=2)
        >>> [list(sampler), sampler.set_epoch(1) or list(sampler)]
        [[(0, 0), (0, 1), (0, 2)], [(1, 2)]]
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__(range(num_steps))
        self.num_steps = num_steps
        self.epoch = 0
        self._done = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def go_on(self, epoch: int, step: int) -> None:
        """Leaves out the first ``step`` steps of ``epoch``, which were taken before a run was stopped."""
        self._done = (epoch, step)

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        first = self._done[1] if self.epoch == self._done[0] else 0
        return ((self.epoch, step) for step in range(first, self.num_steps))

    def __len__(self) -> int:
        return self.num_steps


class StepLoader(DataLoader[Any]):
    """A loader of training steps whose place within an epoch goes into checkpoints.

    Lightning's protocol of stateful loaders: what ``state_dict`` tells comes back by ``load_state_dict`` before the
    first step of a resumed run. The place is that of the last batch handed out, however far workers are ahead.

    Args:
        dataset: gives a batch for each (epoch, step).
        sampler: names them.
        options: those of torch's loader.

    Example:
        >>> StepLoader([0, 1], sampler=StepSampler(2)).state_dict()
        {'epoch': 0, 'step': 0}
    """

    def __init__(self, dataset: Dataset[Any], sampler: StepSampler, **options: Any) -> None:
        super().__init__(dataset, sampler=sampler, **options)
        self.steps = sampler
        self._place = (0, 0)

    def __iter__(self) -> Iterator[TrainBatch]:  # type: ignore[override]
        # A generator: the sampler is asked when the first batch is, after Lightning has told it the epoch
        for batch in super().__iter__():
            self._place = (batch.epoch, batch.step + 1)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its steps were handed out."""
        epoch, step = self._place
        return {"epoch": epoch, "step": step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on behind the last batch that was handed out."""
        self._place = (state_dict["epoch"], state_dict["step"])
        self.steps.go_on(*self._place)


@dataclass(frozen=True)
class TrainSteps(Dataset[TrainBatch]):
    """(epoch, step) -> this rank's slice of the step's union batch, with all that is drawn ahead for it.

    The draws are made for the union batch and cut, so they do not depend on the number of ranks.

    Args:
        positives: ``(2, n)`` int64, the training edges.
        known: the training edges that negatives must avoid, meta edges included.
        needs: the system's; its sampler is set up.
        teacher: draws the teacher's negatives, set up; None where no teacher learns.
        batch_size: B, the most positives of a union batch. Those of an epoch differ by one at most: a few edges left
            over for the last step would move the weights as far as all others, just before they are validated.
        share: which slice is this rank's.
        key: names all draws.
        graph: the training graph, for inputs made ahead.
        reorder: whether positives come in another order in every epoch; False repeats the first epoch's batches.
    """

    positives: Tensor
    known: KnownEdges
    needs: Needs
    teacher: AbstractStaticProposal | None
    batch_size: int
    share: Share
    key: Key
    graph: Graph
    reorder: bool = True
    _orders: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return -(-self.positives.shape[1] // self.batch_size)

    def _order(self, epoch: int) -> Tensor:
        """The epoch's order of positives; kept, since drawing it is work that grows with the graph."""
        epoch = epoch if self.reorder else 0
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = permutation(self.positives.shape[1], self.key.child("order").at(epoch))
        return self._orders[epoch]

    def __getitem__(self, index: tuple[int, int]) -> TrainBatch:
        epoch, step = index
        union = self.positives[:, self._order(epoch)[Share(step, len(self)).of(self.positives.shape[1])]]
        key = self.key.at(epoch, step)
        turned = torch.rand(union.shape[1], generator=key.child("turn").generator()) < 0.5
        union = torch.where(turned, union.flip(0), union)
        part = self.share.of(union.shape[1])
        free_anchors, candidates, mask = drawn_ahead(self.needs.sampler, union[0], self.known, key, part)
        teacher_negatives = self._teacher_negatives(union[0], epoch, key.child("teacher"))[part]
        batch = TrainBatch(
            positives=union[:, part],
            candidates=candidates,
            candidate_mask=mask,
            teacher_negatives=teacher_negatives,
            teacher_mask=~self.known.mask(union[0, part, None], teacher_negatives),
            union_positives=union,
            first_row=part.start,
            epoch=epoch,
            step=step,
            number=epoch * len(self) + step,
            free_anchors=free_anchors,
        )
        if self.needs.inputs is None:
            return batch
        pairs = StepPairs(batch)
        inputs = self.needs.inputs(self.graph, pairs.pairs, pairs.names, union, key.child("neighbors"))
        return replace(batch, inputs=inputs)

    def _teacher_negatives(self, anchors: Tensor, epoch: int, key: Key) -> Tensor:
        """``(B, T)``; T is 0 where no teacher learns."""
        asked = self.needs.teacher
        if self.teacher is None or asked is None or (asked.epochs is not None and epoch >= asked.epochs):
            return anchors[:, None][:, :0]
        return self.teacher.draw(anchors, asked.count, key)


@dataclass(frozen=True)
class EvalChunks(Dataset[EvalBatch]):
    """Held-out edges with their negatives, in chunks of at most ``EVAL_PAIRS`` pairs, none twice over the ranks.

    Args:
        whole: all the edges of the stage with their negatives.
        share: which slice is this rank's.
        most_pairs: most pairs of a chunk, where a predictor can bear fewer than ``EVAL_PAIRS``; or None.
    """

    whole: EvalBatch
    share: Share
    most_pairs: int | None = None

    @property
    def _rows(self) -> range:
        part = self.share.of(self.whole.positives.shape[1])
        return range(part.start, part.stop)

    @property
    def _size(self) -> int:
        return max(1, _most(self.most_pairs) // ((self.whole.num_negatives or 0) + 2))

    def __len__(self) -> int:
        return -(-len(self._rows) // self._size)

    def __getitem__(self, index: int) -> EvalBatch:
        rows = self._rows[index * self._size : (index + 1) * self._size]
        return self.whole.part(slice(rows.start, rows.stop))


@dataclass(frozen=True)
class PairBlocks(Dataset[Tensor]):
    """Pairs ``(2, m)`` in blocks, in order, none twice over the ranks; every rank has a block, which may be empty.

    Lightning skips a rank without any block, for which the others would wait.

    Args:
        pairs: ``(2, n)`` int64 pairs, or the keys ``(n,)`` of a pool's pairs.
        pool: the pool that they are of, which turns them round so that they lead from sources to targets; None leaves
            them as they are.
        num_nodes: N, for keys.
        share: which blocks are this rank's.
        most_pairs: most pairs of a block, where a predictor can bear fewer than ``EVAL_PAIRS``; or None.

    Example:
        >>> blocks = PairBlocks(torch.arange(10).view(2, 5), None, 10, Share(0, 2))
        >>> [blocks[i][0].tolist() for i in range(len(blocks))]
        [[0, 1, 2]]
    """

    pairs: Tensor
    pool: PairPool | None
    num_nodes: int
    share: Share
    most_pairs: int | None = None

    @cached_property
    def blocks(self) -> list[slice]:
        """This rank's places among the pairs."""
        size = self.pairs.shape[-1]
        block = max(1, min(_most(self.most_pairs), -(-size // self.share.size)))
        starts = list(range(0, size, block))[self.share.rank :: self.share.size]
        return [slice(start, start + block) for start in starts] or [slice(0, 0)]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self.blocks):
            raise IndexError(f"index: expected 0 ... {len(self.blocks) - 1}, got {index}")
        part = self.pairs[..., self.blocks[index]]
        pairs = pairs_of(part, self.num_nodes) if part.dim() == 1 else part
        return pairs if self.pool is None else self.pool.allowed.oriented(pairs)


def _most(most_pairs: int | None) -> int:
    return EVAL_PAIRS if most_pairs is None else min(EVAL_PAIRS, most_pairs)
