"""The LightningDataModule: a graph, its split, its samplers, its evaluation sets, and the meta set."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mebns_pl.data.batches import EvalChunks, PairBlocks, StepLoader, StepSampler, TrainSteps
from mebns_pl.data.graph_data import AbstractGraphData, SplitFractions
from mebns_pl.datasets.official_splits import OfficialSplit
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, HeartNegatives
from mebns_pl.evaluation.protocols import GeneratedComparison, Protocol
from mebns_pl.graph.csr import Graph, pair_keys
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.keys import Key, permutation
from mebns_pl.mebns.std_generator import StdGenerator
from mebns_pl.mebns.umd_collector import Score, Spread, UMDCollector, one_by_one
from mebns_pl.models.batching import AbstractBatching, FullGraph, Prepare
from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.by_measure import ProximityProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.pools.abstract import Embed
from mebns_pl.pools.built import PairPool, build_pool
from mebns_pl.pools.new_nodes import GivenPairs
from mebns_pl.pools.restriction import DEFAULT_PAIRS, PredictionPairs
from mebns_pl.types import EvalBatch, Inputs, MetaSet, Share, TrainBatch, to_device

log = logging.getLogger(__name__)

_NO_META_NEGATIVE = "split.meta: no meta edge has an end with a legal negative; choose another seed or fraction"


class LinkDataModule(AbstractGraphData):
    """Everything that comes from data.

    It produces the student's candidates, the teacher's structure-enhanced negatives (STD-Generator), the meta set of
    low-uncertainty pairs (UMD-Collector), and the evaluation sets. All of it depends on the seed alone, none of it on
    the number of ranks; samplers see training edges only.

    Args:
        graph: a name of the catalogue, or the path of a file: an edge list (CSV, TSV, Parquet), GraphML, ``.npz`` or
            saved PyG ``Data``.
        root: folder with the catalogue's raw files, for names that are not embedded.
        nodes: path of a node table with features, beside an edge list of one's own; or of an ``.npy`` file with them,
            which stays on disk, beside any file of one's own.
        time_column: the edge list's column with the time of each edge, for a protocol that parts by time; or None.
        split: shares of the parts.
        proposal: draws candidates for the student; uniform by default.
        num_candidates: K, candidates an anchor, 1 or more.
        std_generator: draws the teacher's negatives; half uniform, half from the top 50 by PageRank by default.
        collector: makes the meta set.
        eval_negatives: the negatives that held-out edges are ranked against; HeaRT's by default.
        protocol: a protocol of the field in place of ``split.val``, ``split.test`` and ``eval_negatives``, or None.
        pairs: which pairs prediction scores.
        batch_size: positives of a step over all ranks, 1 or more.
        batching: which part of the graph a step works on: :class:`FullGraph` by default, or :class:`NeighborSampling`
            for graphs that do not fit the device.
        num_workers: loader workers; 0 prepares batches in the main process.
        seed: seed of every draw.

    Example:
        >>> data = LinkDataModule(batch_size=512)
        >>> data.spec
        GraphSpec(num_nodes=352, num_features=6, sparse=False)
    """

    def __init__(
        self,
        graph: str = "air_routes",
        root: str | Path | None = None,
        nodes: str | Path | None = None,
        time_column: str | None = None,
        split: SplitFractions = SplitFractions(),
        proposal: AbstractProposal | None = None,
        num_candidates: int = 8,
        std_generator: StdGenerator | None = None,
        collector: UMDCollector | None = None,
        eval_negatives: AbstractEvalNegatives | None = None,
        protocol: Protocol | None = None,
        pairs: PredictionPairs = DEFAULT_PAIRS,
        batch_size: int = 1024,
        batching: AbstractBatching | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(graph, root, nodes, time_column, split, protocol, Key(seed, "data"))
        for name, value, low in (
            ("num_candidates", num_candidates, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < low:
                raise ValueError(f"{name}: expected {low} or more, got {value}")
        self.proposal = proposal or UniformProposal()
        self.num_candidates = num_candidates
        self.std_generator = std_generator or StdGenerator(ProximityProposal(PersonalizedPageRank(), top=50))
        self.collector = collector or UMDCollector()
        self.eval_negatives = eval_negatives or HeartNegatives()
        self.pairs = pairs
        self.batch_size = batch_size
        self.batching = batching or FullGraph()
        self.num_workers = num_workers
        self.meta_set: MetaSet | None = None
        # What a system asks for when it is set up
        self.learns_meta = False
        self.teacher_epochs: int | None = None
        self.embed: Embed | None = None
        self.given: GivenPairs | None = None
        self.pool: PairPool | None = None
        self.prepare: Prepare | None = None
        self.eval_pairs: int | None = None

    def setup(self, stage: str | None = None) -> None:
        """Loads, splits and checks; sets the proposal up.

        Raises:
            DataError: the data cannot be read or split, or no anchor has a legal negative.
        """
        if stage != "fit" or "_proposal_ready" in self.__dict__:
            return
        legal = self.known.num_legal(self.split.train.flatten())
        if not bool((legal > 0).any()):
            raise DataError(
                f"{self.loaded.name}: every node is linked to every other, so there is no negative to learn from"
            )
        fewest = int(legal[legal > 0].min())
        if self.num_candidates > fewest:
            log.info(
                "num_candidates: %s are drawn for each anchor, with replacement; some have only %s legal candidates",
                *(f"{count:,}" for count in (self.num_candidates, fewest)),
            )
        self.proposal.setup(self.train_graph, self.known)
        self._proposal_ready = True

    @cached_property
    def _std_ready(self) -> StdGenerator:
        self.std_generator.setup(self.train_graph, self.known, self.proposal)
        return self.std_generator

    # Training

    def train_dataloader(self) -> DataLoader[TrainBatch]:
        """One :class:`TrainBatch` a step.

        Meta edges are set apart for systems that learn from a meta set (``learns_meta``, which they set); others
        train on them too.

        Raises:
            DataError: the system learns from a meta set, and no meta edges were set apart.
        """
        if self.learns_meta and not self.split.meta.shape[1]:
            raise DataError(
                "split.meta: MeBNS needs meta edges, got a fraction that sets none apart; choose one above 0"
            )
        if self.learns_meta and not bool((self.known.num_legal(self.split.meta.flatten()) > 0).any()):
            raise DataError(_NO_META_NEGATIVE)
        steps = TrainSteps(
            positives=self._supervision(self.split.train if self.learns_meta else self._observed()),
            known=self.known,
            proposal=self.proposal,
            num_candidates=self.num_candidates,
            std_generator=self._std_ready if self.learns_meta else None,
            teacher_epochs=self.teacher_epochs,
            batch_size=self.batch_size,
            share=self._share(),
            key=self.key.child("train"),
            graph=self.train_graph,
            prepare=self.prepare,
            batching=self.batching,
        )
        return StepLoader(steps, StepSampler(len(steps)), **self._loader_options())

    def _observed(self) -> Tensor:
        """Training and meta edges ``(2, n)`` in an order that does not tell which is which."""
        if not self.split.meta.shape[1]:
            return self.split.train
        edges = self.split.observed
        return edges[:, pair_keys(edges[0], edges[1], self.loaded.num_nodes).argsort(stable=True)]

    def _supervision(self, edges: Tensor) -> Tensor:
        """The share of ``edges`` ``(2, n)`` that losses are computed on, one at least."""
        if self.fractions.supervision == 1:
            return edges
        order = permutation(edges.shape[1], self.key.child("supervision"))
        return edges[:, order[: max(1, int(edges.shape[1] * self.fractions.supervision))].sort().values]

    def refresh_meta_set(
        self, score: Score, device: torch.device | str, epoch: int, spread: Spread = one_by_one
    ) -> MetaSet:
        """Collects the meta set anew with the present teacher; the same on all ranks.

        The pool is every meta edge, and ``negatives_per_positive`` base and structural non-edges for each.

        Args:
            score: (graph, pairs, key) -> logits, one stochastic pass of the teacher.
            device: where the teacher lives.
            epoch: names the draws.
            spread: shares the teacher's passes among ranks.

        Raises:
            DataError: no meta edge has an end with a legal negative.
        """
        edges = self.split.meta
        key = self.key.child("meta").at(epoch)
        turned = torch.rand(edges.shape[1], generator=key.child("turn").generator()) < 0.5
        anchors = torch.where(turned, edges[1], edges[0]).repeat_interleave(self.collector.negatives_per_positive)
        ratio = self.collector.structure_ratio
        pool = MixtureProposal([self._std_ready.structure, self.proposal], [ratio, 1 - ratio])
        negatives = self._legal_pairs(pool, anchors, key.child("negatives"))
        if not negatives.shape[1]:
            raise DataError(_NO_META_NEGATIVE)
        pairs = torch.cat([edges, negatives], dim=1)
        labels = torch.cat([torch.ones(edges.shape[1]), torch.zeros(negatives.shape[1])])
        graph = self.batching.resident(self.train_graph.without(edges), device)
        self.meta_set = self.collector.collect(
            score, graph, pairs.to(device), labels.to(device), key.child("passes"), spread
        )
        return self.meta_set

    def meta_inputs(self, meta_batch: MetaSet, share: slice, key: Key) -> Inputs | None:
        """The inputs of a meta batch's pairs, its edges left out, where they are made ahead of the step; or None.

        Args:
            meta_batch: the union batch's pairs.
            share: the columns that are this rank's.
            key: names the draws.
        """
        pairs, edges = meta_batch.pairs[:, share].cpu(), meta_batch.pairs[:, meta_batch.labels > 0.5].cpu()
        return self.batching.inputs(None, self.train_graph, pairs, torch.arange(pairs.shape[1]), edges, key)

    def probe(self, size: int) -> Tensor:
        """Legal negatives to watch migration on, half uniform and half structural: ``(2, size)`` or fewer.

        Anchors are ends of training edges. The same for every sampler that is compared.
        """
        key = self.key.child("probe")
        ends = self.split.train.flatten()
        uniform = UniformProposal()
        uniform.setup(self.train_graph, self.known)
        self._std_ready  # noqa: B018 (builds the structural tables)
        parts = []
        for name, proposal, count in (
            ("uniform", uniform, size - size // 2),
            ("structure", self.std_generator.structure, size // 2),
        ):
            # Twice as many draws as needed, since those that are not legal are left out; a pair can come twice
            generator = key.child(name).generator()
            anchors = ends[torch.randint(len(ends), (2 * count,), generator=generator)]
            parts.append(self._legal_pairs(proposal, anchors, key.child(name + "/nodes"))[:, :count])
        return torch.cat(parts, dim=1)

    def _legal_pairs(self, proposal: AbstractProposal, anchors: Tensor, key: Key) -> Tensor:
        """``(2, m)``: one draw for each anchor, without those that are known edges."""
        nodes = proposal.propose(anchors, 1, key)[:, 0]
        return torch.stack([anchors, nodes])[:, ~self.known.mask(anchors, nodes)]

    # Evaluation and prediction

    def val_dataloader(self) -> DataLoader[EvalBatch]:
        """Validation edges with their negatives, none of which is a training or validation edge."""
        return self._loader(EvalChunks(self._eval_set("val"), self._share(), self.eval_pairs))

    def test_dataloader(self) -> DataLoader[EvalBatch]:
        """Test edges with their negatives, none of which is an edge."""
        return self._loader(EvalChunks(self._eval_set("test"), self._share(), self.eval_pairs))

    @property
    def predict_graph(self) -> Graph:
        """Message passing in prediction: :attr:`full_graph`, with the new nodes of pairs that were given."""
        return self.full_graph if self.given is None else self.given.graph

    def predict_dataloader(self) -> DataLoader[Tensor]:
        """Blocks of pairs ``(2, m)``: those that were given, or else a pool of pairs that are no known edges."""
        if self.given is not None:
            blocks = PairBlocks(self.given.pairs, None, self.given.graph.num_nodes, self._share(), self.eval_pairs)
        else:
            pool = self.build_pool()
            blocks = PairBlocks(pool.keys, pool.allowed, self.loaded.num_nodes, self._share(), self.eval_pairs)
        return self._loader(blocks)

    def build_pool(self) -> PairPool:
        """The pool of pairs to predict, kept in ``pool`` with its size and coverage; rank 0 builds it for all ranks.

        Raises:
            DataError: names or types that the graph does not have; the pool cannot be made of this graph, or with this
                student.
        """
        pool: PairPool | None = None
        if self._share().rank == 0:
            allowed = self.pairs.resolve(self.loaded.node_names, None if self.nodes is None else str(self.nodes))
            held_out = torch.cat([self.split.val, self.split.test], dim=1)
            embed, limit = self.embed or (lambda graph: None), self.pairs.max_pairs
            pool = build_pool(self.pairs.pool, self.full_graph, self.train_graph, held_out, allowed, embed, limit)
        if self._share().size > 1:
            assert self.trainer is not None
            pool = self.trainer.strategy.broadcast(pool)
        assert pool is not None
        self.pool = pool
        for note in pool.report.notes:
            log.warning("%s", note)
        return pool

    def training_candidates(self, size: int) -> Tensor:
        """About ``size`` pairs ``(2, m)`` as the student's candidates are drawn in training, known edges left out."""
        key = self.key.child("training_candidates")
        if "_proposal_ready" not in self.__dict__:
            self.proposal.setup(self.train_graph, self.known)
            self._proposal_ready = True
        ends = self.split.train.flatten()
        positives = ends[torch.randint(len(ends), (size,), generator=key.child("ends").generator())]
        return self._legal_pairs(self.proposal, self.proposal.anchors(positives, key.child("anchors")), key)

    def shares_negatives(self, stage: str) -> bool:
        """Whether the held-out edges of ``stage`` ("val" or "test") are all ranked against the same pairs."""
        return self._eval_set(stage).negatives is None

    def _eval_set(self, stage: str) -> EvalBatch:
        split = self.split
        positives = split.val if stage == "val" else split.test
        cache: dict[str, EvalBatch] = self.__dict__.setdefault("_eval_sets", {})
        if positives.shape[1] < self._share().size:  # Lightning skips a rank without batches; the others would wait
            raise DataError(
                f"split.{stage}: {positives.shape[1]} edges cannot be parted among {self._share().size} ranks"
            )
        if stage not in cache:
            if self.protocol is not None:
                comparison, parts = self.protocol.comparison, self.protocol_parts
            else:
                comparison = GeneratedComparison(self.eval_negatives)
                parts = OfficialSplit(self.loaded.name, self.loaded.num_nodes, split.observed, split.val, split.test)
            cache[stage] = comparison.compare(stage, parts, self.train_graph, self.key.child(stage))
        return cache[stage]

    def _loader(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        return DataLoader(dataset, shuffle=False, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        # A loader draws a seed for its workers, which use none: from a generator of its own, not from the global one
        generator = self.key.child("loader").generator()
        return {"batch_size": None, "num_workers": self.num_workers, "generator": generator}

    def _share(self) -> Share:
        return Share() if self.trainer is None else Share(self.trainer.global_rank, self.trainer.world_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves frozen dataclasses, which Lightning itself refuses."""
        return batch.to(device) if isinstance(batch, Tensor) else to_device(batch, device)

    # The meta set depends on a teacher of the past, so it is the one thing here that checkpoints hold

    def state_dict(self) -> dict[str, Any]:
        """The meta set."""
        return {} if self.meta_set is None else {"meta_set": {**vars(self.meta_set)}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the meta set back."""
        self.meta_set = MetaSet(**state_dict["meta_set"]) if "meta_set" in state_dict else None


def data_of(trainer: Trainer) -> LinkDataModule:
    """The :class:`LinkDataModule` that a trainer runs with.

    Raises:
        TypeError: it has another one, or none.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, LinkDataModule):
        raise TypeError(f"trainer: systems and callbacks work with a LinkDataModule, got {type(data).__name__}")
    return data
