"""The LightningDataModule: a graph, its split, and what loaders hand out of them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mebns_pl.checks import at_least, expect
from mebns_pl.data.batches import EvalChunks, PairBlocks, StepLoader, StepSampler, TrainSteps, handed_out
from mebns_pl.data.needs import Needs
from mebns_pl.datasets.catalog import CATALOG, load_graph
from mebns_pl.datasets.files import SUFFIXES, read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.official_splits import OfficialSplit
from mebns_pl.datasets.prepared import prepared, source_of
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns
from mebns_pl.datasets.split import SplitFractions, check_split, split_edges
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negative_cache import describe, digest, graph_parts
from mebns_pl.evaluation.negatives import (
    AbstractEvalNegatives,
    HeartNegatives,
    RandomNegatives,
    most_edges,
    num_of_type,
)
from mebns_pl.evaluation.protocols import GeneratedComparison, Protocol, edge_split
from mebns_pl.graph.csr import Graph, pair_keys
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.node_types import MOST, NodeTypes
from mebns_pl.keys import Key, permutation
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.by_measure import ProximityProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.pools.abstract import AllowedPairs
from mebns_pl.pools.built import PairPool, build_pool
from mebns_pl.pools.new_nodes import GivenPairs
from mebns_pl.pools.restriction import DEFAULT_PAIRS, PredictionPairs
from mebns_pl.progress import doing
from mebns_pl.shares import floor_share
from mebns_pl.types import EdgeSplit, EvalBatch, GraphSpec, Share, to_device

log = logging.getLogger(__name__)


_READ: ContextVar[dict[str, LoadedGraph] | None] = ContextVar("read", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Within, data modules that name the same graph share what the first of them has read."""
    token = _READ.set({})
    try:
        yield
    finally:
        _READ.reset(token)


class LinkDataModule(LightningDataModule):
    """Everything that comes from data: the graph, its split, batches, evaluation sets, and pairs to predict.

    What a system needs of it (:class:`~mebns_pl.data.needs.Needs`) is looked up at the trainer's system; asking changes
    nothing. All draws depend on the seeds alone, none on the number of ranks; samplers see training edges only.

    Args:
        graph: a name of the catalogue, or the path of a file: an edge list (CSV, TSV, Parquet), GraphML, ``.npz`` or
            saved PyG ``Data``.
        root: folder with the catalogue's raw files, for names that are not embedded.
        nodes: path of a node table with features, beside an edge list of one's own; or of an ``.npy`` file with them,
            which stays on disk, beside any file of one's own.
        time_column: the edge list's column with the time of each edge, for a protocol that parts by time; or None.
        columns: what the columns of one's own tables are, or the attributes of GraphML.
        typed: whether types of nodes govern what negatives may be, where the graph has any and not all are linked to
            all: by ``columns.bipartite``, ``columns.label``, a column ``type`` of the node table, or GraphML.
        split: shares of the parts.
        structure: draws structural non-edges, for the teacher (STD-Generator), the meta set and the probe of migration;
            the top 50 by PageRank by default.
        eval_negatives: the negatives that held-out edges are ranked against; HeaRT's by default.
        protocol: a protocol of the field in place of ``split.val``, ``split.test`` and ``eval_negatives``, or None.
        pairs: which pairs prediction scores.
        batch_size: the most positives of a step over all ranks, 1 or more; an epoch's steps have equally many.
        num_workers: loader workers; 0 prepares batches in the main process.
        seed: seed of every draw.
        split_seed: seed of the draws that make the data what they are: the split, meta edges, the share that losses are
            computed on, evaluation negatives and the probe of migration; 0 to 2^32 - 1, or None for that of ``seed``.
        oracle: for analysis alone, and no honest run: no training negative is a held-out edge, which nobody can know.
            Such a run is validated, is warned of and carries a note; its checkpoints are refused by test, prediction
            and runs without it.

    Raises:
        ValueError: an argument out of its range.

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
        time_column: int | str | None = None,
        columns: GraphColumns = DEFAULT_COLUMNS,
        typed: bool = True,
        split: SplitFractions = SplitFractions(),
        structure: AbstractStaticProposal | None = None,
        eval_negatives: AbstractEvalNegatives | None = None,
        protocol: Protocol | None = None,
        pairs: PredictionPairs = DEFAULT_PAIRS,
        batch_size: int = 1024,
        num_workers: int = 0,
        seed: int = 0,
        split_seed: int | None = None,
        oracle: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, batch_size=batch_size)
        at_least(0, num_workers=num_workers)
        whole = split_seed is None or 0 <= split_seed < 2**32
        expect(whole, f"an integer in 0 ... {2**32 - 1:,} or null", split_seed=split_seed)
        self.graph_name = graph
        self.root = root
        self.nodes = nodes
        self.time_column = time_column
        self.columns = columns
        self.typed = typed
        self.fractions = split
        self.structure = structure or ProximityProposal(PersonalizedPageRank(), top=50)
        self.eval_negatives = eval_negatives or HeartNegatives()
        self.protocol = protocol
        self.pairs = pairs
        self.given: GivenPairs | None = None
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.key = Key(seed, "data")
        self.split_key = Key(seed if split_seed is None else split_seed, "data")
        self.oracle = oracle
        self._eval_sets: dict[str, EvalBatch] = {}
        self._split_origin = ""  # of a split that is kept on disk
        self._predicted: PairBlocks | None = None

    def predicting(self, pairs: PredictionPairs | None = None, given: GivenPairs | None = None) -> Self:
        """The same data with other pairs to predict; this module stays as it is, and what it has read is shared.

        Args:
            pairs: which pairs; None keeps this module's.
            given: pairs to be scored as they are given, in place of a pool.
        """
        self.known, self.full_graph  # noqa: B018 (what is made before the copy is made once)
        other = copy.copy(self)
        other.pairs, other.given = pairs or self.pairs, given
        return other

    # The graph and its split, each part made when it is first asked for

    @cached_property
    def loaded(self) -> LoadedGraph:
        """The whole graph as it was read."""
        asked = repr((self.graph_name, self.root, self.nodes, self.time_column, self.columns))
        read = {} if (shared := _READ.get()) is None else shared
        if asked not in read:
            read[asked] = self._read()
        for note in read[asked].notes:
            log.info("%s: %s", read[asked].name, note)
        return read[asked]

    def _read(self) -> LoadedGraph:
        if Path(self.graph_name).suffix:
            loaded = read_graph(self.graph_name, self.nodes, time_column=self.time_column, columns=self.columns)
            isolated = loaded.num_nodes - int(_are_ends(loaded.edges, loaded.num_nodes).sum())
            loaded.notes.extend([f"{isolated:,} nodes without an edge, kept"] * bool(isolated))
        elif self.nodes is not None:
            raise DataError(f"nodes: a node table goes with an edge list of one's own, got graph={self.graph_name!r}")
        elif self.graph_name not in CATALOG:
            raise DataError(
                f"graph: got {self.graph_name!r}; allowed are the path of a file ({', '.join(SUFFIXES)}) or "
                f"one of {', '.join(CATALOG)}"
            )
        elif self.time_column is not None:
            raise DataError(f"time_column: got {self.time_column!r}; it goes with a file, not with {self.graph_name!r}")
        elif self.columns != DEFAULT_COLUMNS:
            raise DataError(f"columns: they go with a file of one's own, not with {self.graph_name!r}")
        else:
            loaded = load_graph(self.graph_name, self.root)
        return loaded

    @property
    def spec(self) -> GraphSpec:
        """What models need to know of the graph."""
        return self.loaded.spec

    @property
    def split(self) -> EdgeSplit:
        """The frozen split; may be assigned before first use.

        Raises:
            DataError: the edges cannot be parted; when it is assigned, parts that share an edge, or have one twice.
        """
        return self._split

    @split.setter
    def split(self, parts: EdgeSplit) -> None:
        self._split, self._split_origin = check_split(parts, self.loaded.node_names), ""

    @cached_property
    def _split(self) -> EdgeSplit:
        parts, key = self.fractions, self.split_key.child("split")
        if self.protocol is not None:
            return edge_split(self.protocol_parts, parts.meta, key.child("meta"))
        if not self.loaded.origin:
            return split_edges(self.loaded.edges, parts.val, parts.test, parts.meta, key=key)

        def make() -> dict[str, Tensor]:
            with doing(f"{self.loaded.name}, split"):
                return vars(split_edges(self.loaded.edges, parts.val, parts.test, parts.meta, key=key))

        asked = ["split", self.loaded.origin, parts.val, parts.test, parts.meta, tuple(key)]
        found, self._split_origin = prepared(asked, make, f"{self.loaded.name}, split")
        return EdgeSplit(**found)

    @property
    def kept_as(self) -> str:
        """The name of a split that is kept on disk, as a large graph's is; "" of all others."""
        return self._split_origin if self.split else ""

    @cached_property
    def protocol_parts(self) -> OfficialSplit:
        """The protocol's parts, in the order and direction that their negatives belong to."""
        assert self.protocol is not None
        parts = self.protocol.parting.part(self.loaded, self.root, self.split_key.child("split"))
        for note in parts.notes:
            log.info("%s: %s", parts.name, note)
        return parts

    @cached_property
    def train_graph(self) -> Graph:
        """Message passing in training and evaluation: training and meta edges."""
        split = self.split
        if not self._split_origin:
            return self._graph(split.observed)
        return self._kept_graph(["training graph", self._split_origin], lambda: split.observed)

    @cached_property
    def types(self) -> NodeTypes | None:
        """Types of the nodes, where they say what a negative may be: linked as training and meta edges link them."""
        names = self.loaded.node_types
        if not self.typed or names is None:
            return None
        if (number := len(set(names))) > MOST:
            log.warning(
                "%s: nodes have %s types, more than %d, so that types do not say what a negative may be",
                self.loaded.name, f"{number:,}", MOST,
            )  # fmt: skip
        types = NodeTypes.of(names, self.split.observed)
        if types is not None:
            order, (first, second) = sorted(set(names)), types.linked.triu().nonzero().t()
            pairs = ", ".join(f"{order[a]} - {order[b]}" for a, b in zip(first.tolist(), second.tolist(), strict=True))
            log.info("%s: negatives join the types that edges join: %s", self.loaded.name, pairs[:300])
        return types

    @cached_property
    def test_graph(self) -> Graph:
        """Message passing in test: the training graph, unless a protocol adds the validation edges."""
        if self.protocol is None or not self.protocol.val_in_test:
            return self.train_graph
        return self._graph(torch.cat([self.split.observed, self.split.val], dim=1))

    @cached_property
    def full_graph(self) -> Graph:
        """Message passing in prediction: every known edge."""
        split, loaded = self.split, self.loaded
        if not self._split_origin:
            return self._graph(split.all)
        return self._kept_graph(["full graph", loaded.origin], lambda: loaded.edges)

    def _kept_graph(self, parts: list[str], edges: Callable[[], Tensor]) -> Graph:
        """The graph of some edges ``(2, n)``, whose rows are kept on disk; they are what ``parts`` tell."""

        def make() -> dict[str, Tensor]:
            with doing(f"{self.loaded.name}, {parts[0]}"):
                made = Graph.from_edges(edges(), self.loaded.num_nodes)
            return {"indptr": made.indptr, "indices": made.indices}

        found, _ = prepared(parts, make, f"{self.loaded.name}, {parts[0]}")
        return Graph(found["indptr"], found["indices"], self.loaded.x, types=self.types)

    def _graph(self, edges: Tensor) -> Graph:
        """The graph of some edges ``(2, n)``, and those of other relations, with features and types.

        Edges have the weights that they were read with, and 1 where they were read with none.
        """
        loaded, weight = self.loaded, None
        edges = edges if loaded.context is None else torch.cat([edges, loaded.context], dim=1)
        if loaded.weights is not None:
            keys = pair_keys(loaded.edges[0], loaded.edges[1], loaded.num_nodes)
            asked = pair_keys(edges.min(dim=0).values, edges.max(dim=0).values, loaded.num_nodes)
            place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
            weight = torch.where(keys[place] == asked, loaded.weights[place], 1.0).float()
        return Graph.from_edges(edges, loaded.num_nodes, loaded.x, weight, self.types)

    @cached_property
    def known(self) -> KnownEdges:
        """What no negative may be: training and meta edges, and self-pairs. Held-out edges are unknown to samplers."""
        if self.loaded.context is None:
            return KnownEdges(self.train_graph)
        return KnownEdges(Graph.from_edges(self.split.observed, self.loaded.num_nodes, types=self.types))

    @cached_property
    def avoided(self) -> KnownEdges:
        """What no training negative may be: :attr:`known`, and of an oracle, for analysis alone, held-out edges."""
        if not self.oracle:
            return self.known
        log.warning(
            "%s: data.oracle: held-out edges are left out of the negatives: for analysis alone", self.loaded.name
        )
        held_out = torch.cat([self.split.val, self.split.test], dim=1)
        edges = torch.cat([self.split.observed, held_out[:, held_out[0] != held_out[1]]], dim=1)
        return KnownEdges(Graph.from_edges(edges, self.loaded.num_nodes, types=self.types))

    def refuse_oracle(self, stage: str) -> None:
        """Refuses what would look like an honest result.

        Args:
            stage: what is asked of the run.

        Raises:
            DataError: the candidates are an oracle's.
        """
        if self.oracle:
            raise DataError(
                f"data.oracle: got true, and {stage} of such a run would be no honest result: it has left held-out "
                "edges out of its negatives; allowed is fit"
            )

    @cached_property
    def digests(self) -> dict[str, str]:
        """What names the whole graph and its split in checkpoints: digests of edges and features, and of the parts."""
        split, loaded = self.split, self.loaded
        weights = [] if loaded.weights is None else [loaded.weights]
        nodes_alone = Graph.from_edges(loaded.edges[:, :0], loaded.num_nodes, loaded.x)
        context = [] if loaded.context is None else [loaded.context]
        return {
            "graph": digest([*graph_parts(nodes_alone), loaded.edges, *weights, *context]),
            "split": digest([split.train, split.meta, split.val, split.test]),
        }

    # Training

    @property
    def needs(self) -> Needs:
        """What the trainer's system has stated."""
        return Needs() if self.trainer is None else getattr(self.trainer.lightning_module, "needs", Needs())

    def train_dataloader(self) -> DataLoader[Any]:
        """One :class:`~mebns_pl.data.train_batch.TrainBatch` a step.

        Raises:
            DataError: no anchor has a legal negative; meta edges are needed and none were set apart.
        """
        steps = self.train_steps(self.needs)
        return StepLoader(steps, StepSampler(len(steps)), **self._loader_options())

    def train_steps(self, needs: Needs) -> TrainSteps:
        """The steps of this rank; proposals are set up where they are not yet.

        Raises:
            DataError: as :meth:`train_dataloader`.
        """
        self.fewest_candidates  # noqa: B018 (refuses a graph without any)
        if needs.meta_edges:
            self._check_meta_edges()
        base = needs.sampler.static
        base.setup(self.train_graph, self.avoided)
        return TrainSteps(
            positives=self._supervision(self.split.train if needs.meta_edges else self._observed()),
            known=self.avoided,
            needs=needs,
            teacher=None if needs.teacher is None else self.enhanced(base, needs.teacher.structure_ratio),
            batch_size=self.batch_size,
            share=self._share(),
            key=self.key.child("train"),
            graph=self.train_graph,
            reorder=self.trainer is None or not self.trainer.overfit_batches,  # type: ignore[attr-defined]
        )

    @cached_property
    def fewest_candidates(self) -> int:
        """How many legal negatives that anchor has, of those with any, which has fewest.

        Raises:
            DataError: none has any.
        """
        ends = _are_ends(self.split.train, self.loaded.num_nodes).nonzero().flatten()
        legal = self.avoided.num_legal(ends)
        if not bool((legal > 0).any()):
            raise DataError(
                f"{self.loaded.name}: every node is linked to every other, so there is no negative to learn from"
            )
        return int(legal[legal > 0].min())

    def _check_meta_edges(self) -> None:
        if not self.split.meta.shape[1]:
            raise DataError(
                "split.meta: MeBNS needs meta edges, got a fraction that sets none apart; choose one above 0"
            )
        if not bool((self.avoided.num_legal(self.split.meta.flatten()) > 0).any()):
            raise DataError(
                "split.meta: no meta edge has an end with a legal negative; choose another seed or fraction"
            )

    def _observed(self) -> Tensor:
        """Training and meta edges ``(2, n)`` in an order that does not tell which is which."""
        if not self.split.meta.shape[1]:
            return self.split.train
        if self._split_origin:  # drawn here, so that edges are as a graph has them
            return self.train_graph.edges
        edges = self.split.observed
        keys = pair_keys(edges[0], edges[1], self.loaded.num_nodes).numpy()
        # NumPy's stable sort merges what ascends: of two sorted parts in one pass
        return edges.index_select(1, torch.from_numpy(np.argsort(keys, kind="stable")))

    def _supervision(self, edges: Tensor) -> Tensor:
        """The share of ``edges`` ``(2, n)`` that losses are computed on, one at least."""
        if self.fractions.supervision == 1:
            return edges
        order = permutation(edges.shape[1], self.split_key.child("supervision"))
        return edges[:, order[: max(1, floor_share(self.fractions.supervision, edges.shape[1]))].sort().values]

    def enhanced(
        self, base: AbstractStaticProposal, structure_ratio: float, structure: AbstractStaticProposal | None = None
    ) -> MixtureProposal:
        """Draws of ``base`` with structural ones among them, with a probability in [0, 1]; set up.

        Args:
            base: the others.
            structure_ratio: the probability of a structural draw.
            structure: draws these, in place of the data's own.
        """
        mixture = MixtureProposal([structure or self.structure, base], [structure_ratio, 1 - structure_ratio])
        mixture.setup(self.train_graph, self.avoided)
        return mixture

    def meta_pool(self, negatives: AbstractStaticProposal, per_edge: int, key: Key) -> tuple[Tensor, Tensor]:
        """Every meta edge, and legal non-edges of its ends: what a meta set is collected from; the same on all ranks.

        Args:
            negatives: draws the non-edges, set up.
            per_edge: how many are drawn for each edge; those that are known edges are left out.
            key: names the draws.

        Returns:
            ``(2, m)`` int64 pairs, and ``(m,)`` float32 labels, 1 for an edge.

        Raises:
            DataError: no meta edge has an end with a legal negative.
        """
        self._check_meta_edges()
        edges = self.split.meta
        turned = torch.rand(edges.shape[1], generator=key.child("turn").generator()) < 0.5
        free = self.avoided.num_legal(edges.flatten()).view(2, -1) > 0
        turned = torch.where(free[0] == free[1], turned, free[1])  # an end that is linked to all others has none
        anchors = torch.where(turned, edges[1], edges[0]).repeat_interleave(per_edge)
        others = self._legal_pairs(negatives, anchors, key.child("negatives"))
        labels = torch.cat([torch.ones(edges.shape[1]), torch.zeros(others.shape[1])])
        return torch.cat([edges, others], dim=1), labels

    def probe(self, size: int) -> Tensor:
        """Legal negatives to watch migration on, half uniform and half structural: ``(2, size)`` or fewer.

        Anchors are ends of training edges. The same for every sampler that is compared.
        """
        key, ends, parts = self.split_key.child("probe"), self.split.train.flatten(), []
        # The probe of an oracle is that of the honest run, and training goes on with what it avoids
        structure = copy.copy(self.structure) if self.oracle else self.structure
        for name, proposal, count in (
            ("uniform", UniformProposal(), size - size // 2),
            ("structure", structure, size // 2),
        ):
            proposal.setup(self.train_graph, self.known)
            # Twice as many draws as needed, since those that are not legal are left out; a pair can come twice
            generator = key.child(name).generator()
            anchors = ends[torch.randint(len(ends), (2 * count,), generator=generator)]
            parts.append(self._legal_pairs(proposal, anchors, key.child(name + "/nodes"))[:, :count])
        return torch.cat(parts, dim=1)

    def training_candidates(self, proposal: AbstractStaticProposal, size: int) -> Tensor:
        """About ``size`` pairs ``(2, m)`` as ``proposal`` draws candidates in training, known edges left out."""
        proposal.setup(self.train_graph, self.avoided)
        key, ends = self.key.child("training_candidates"), self.split.train.flatten()
        positives = ends[torch.randint(len(ends), (size,), generator=key.child("ends").generator())]
        return self._legal_pairs(proposal, proposal.anchors(positives, key.child("anchors")), key)

    def _legal_pairs(self, proposal: AbstractStaticProposal, anchors: Tensor, key: Key) -> Tensor:
        """``(2, m)``: one draw for each anchor, without those that the proposal knows to be none."""
        nodes = proposal.draw(anchors, 1, key)[:, 0]
        return torch.stack([anchors, nodes])[:, ~proposal.known.mask(anchors, nodes)]

    # Evaluation and prediction

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation edges with their negatives, none of which is a training or validation edge; no loader of none."""
        if not self.split.val.shape[1] and self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            return []
        return self._loader(EvalChunks(self.eval_set("val"), self._share(), self.needs.most_pairs))

    def test_dataloader(self) -> DataLoader[Any]:
        """Test edges with their negatives, none of which is an edge; none of an oracle's."""
        self.refuse_oracle("test")
        return self._loader(EvalChunks(self.eval_set("test"), self._share(), self.needs.most_pairs))

    @property
    def predict_graph(self) -> Graph:
        """Message passing in prediction: :attr:`full_graph`, with the new nodes of pairs that were given."""
        return self.full_graph if self.given is None else self.given.graph

    def predict_dataloader(self) -> DataLoader[Any]:
        """Blocks of pairs ``(2, m)``: those that were given, or else a pool of pairs that are no known edges."""
        self.refuse_oracle("prediction")
        if self.given is not None:
            pool, pairs = None, self.given.pairs
        else:
            pool = self.build_pool(self.needs)
            pairs = pool.keys
        blocks = PairBlocks(pairs, pool, self.predict_graph.num_nodes, self._share(), self.needs.most_pairs)
        self._predicted = blocks
        return self._loader(blocks)

    @property
    def predicted_nodes(self) -> Tensor | None:
        """``(n,)`` int64, the ends of this rank's pairs to predict; None before there are any."""
        blocks = self._predicted
        if blocks is None:
            return None
        num_nodes = self.predict_graph.num_nodes
        return _are_ends((blocks[place] for place in range(len(blocks))), num_nodes).nonzero().flatten()

    @property
    def allowed_pairs(self) -> AllowedPairs:
        """Which pairs prediction is about.

        Raises:
            DataError: names or types that the graph does not have.
        """
        return self.pairs.resolve(self.loaded.node_names, None if self.nodes is None else str(self.nodes), self.columns)

    def check_pairs(self, needs: Needs) -> None:
        """Refuses what :meth:`build_pool` would, as far as that can be told before anything is trained.

        Raises:
            DataError: as of that.
        """
        if self.pairs.pool is not None:
            self.pairs.pool.check(self.loaded.num_nodes, needs.embed is not None)
        self.allowed_pairs  # noqa: B018

    def build_pool(self, needs: Needs) -> PairPool:
        """The pool of pairs to predict, with its size and coverage; all ranks have that of rank 0.

        Raises:
            DataError: names or types that the graph does not have; the pool cannot be made of this graph, or with this
                student.
        """
        pool: PairPool | None = None
        if self._share().rank == 0 or needs.together:
            allowed = self.allowed_pairs
            held_out = torch.cat([self.split.val, self.split.test], dim=1)
            embed, limit = needs.embed or (lambda graph: None), self.pairs.max_pairs
            full, asked = self.full_graph, self.pairs.source_type or self.pairs.target_type
            full = full if asked is None else replace(full, types=None)
            pool = build_pool(self.pairs.pool, full, self.train_graph, held_out, allowed, embed, limit)
        if self._share().size > 1:
            assert self.trainer is not None
            pool = self.trainer.strategy.broadcast(pool)
        assert pool is not None
        for note in pool.report.notes:
            log.warning("%s", note)
        return pool

    def eval_set(self, stage: str) -> EvalBatch:
        """The held-out edges of ``stage`` ("val" or "test") with their negatives; made once.

        Raises:
            DataError: there are fewer edges than ranks; an edge has an end without any non-edge.
        """
        split = self.split
        positives = split.val if stage == "val" else split.test
        if not positives.shape[1]:
            raise DataError(f"split.{stage}: 0 edges are held out, so there is nothing to rank; choose a share above 0")
        if positives.shape[1] < self._share().size:  # Lightning skips a rank without batches; the others would wait
            raise DataError(
                f"split.{stage}: {positives.shape[1]} edges cannot be parted among {self._share().size} ranks"
            )
        if stage not in self._eval_sets:
            # HeaRT's would be many times as large as the graph, and of a way that is not the package's own nobody knows
            # when it changes
            kept = self._split_origin and type(self.eval_negatives) is RandomNegatives
            made = self._kept_comparison(stage) if kept else self._compared(stage)
            if made.repeated is not None:
                counts = (~made.repeated).sum(dim=1)
                log.info(
                    "split.%s: %s of %s edges have fewer different negatives than the %s asked for, the least %s; none "
                    "counts twice",
                    *(stage, int((counts < made.repeated.shape[1]).sum()), len(counts), made.repeated.shape[1]),
                    int(counts.min()),
                )
            self._eval_sets[stage] = made
        return self._eval_sets[stage]

    def _compared(self, stage: str) -> EvalBatch:
        """The held-out edges of a stage with their negatives, made.

        Raises:
            DataError: an edge has an end without any non-edge.
        """
        if told := self.unrankable(stage):
            raise DataError(told)
        split = self.split
        if self.protocol is not None:
            comparison, parts = self.protocol.comparison, self.protocol_parts
        else:
            comparison = GeneratedComparison(self.eval_negatives)
            parts = OfficialSplit(self.loaded.name, self.loaded.num_nodes, split.observed, split.val, split.test)
        return comparison.compare(stage, parts, self.train_graph, self.split_key.child(stage))

    def _kept_comparison(self, stage: str) -> EvalBatch:
        """The same of a split that is kept on disk, kept there, too."""
        asked = ["negatives", self._split_origin, stage, digest([describe(self.eval_negatives)]), tuple(self.split_key)]
        features = [] if self.nodes is None else source_of([Path(self.nodes)])

        def make() -> dict[str, Tensor]:
            return {name: value for name, value in vars(self._compared(stage)).items() if value is not None}

        found, _ = prepared([*asked, features], make, f"{self.loaded.name}, negatives of {stage} edges")
        return EvalBatch(**found)

    def unrankable(self, stage: str) -> str:
        """Why the edges of ``stage`` ("val" or "test") cannot be ranked against negatives of their own; "" if they can.

        That is where one of their nodes is linked to every other by edges that the stage may know.
        """
        split, size = self.split, self.loaded.num_nodes
        if self.protocol is not None and not isinstance(self.protocol.comparison, GeneratedComparison):
            return ""
        held_out = split.val if stage == "val" else split.test
        parts = [split.train, split.meta, split.val, *([split.test] if stage == "test" else [])]
        if self.types is None and most_edges(parts, size) < size - 1:
            return ""
        known = torch.cat(parts, dim=1)
        graph = Graph.from_edges(known, size)
        if self.types is None:
            full = held_out[graph.degree[held_out] == size - 1]
        else:
            full = held_out[num_of_type(graph, self.types, held_out, self.types.kind[held_out.flip(0)]) == 0]
        if not len(full):
            return ""
        if self.types is not None:
            return (
                f"split.{stage}: node {self.loaded.node_names[int(full[0])]!r} is linked to all nodes of the other "
                "end's type by known edges; an end of a positive needs at least one of that type it is not linked to"
            )
        return (
            f"split.{stage}: node {self.loaded.node_names[int(full[0])]!r} is linked to all other {size - 1:,} nodes "
            "by known edges; an end of a positive needs at least one node it is not linked to"
        )

    def _loader(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        return DataLoader(dataset, shuffle=False, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        # A loader draws a seed for its workers, which use none: from a generator of its own, not from the global one
        generator = self.key.child("loader").generator()
        return {"batch_size": None, "num_workers": self.num_workers, "generator": generator, "collate_fn": handed_out}

    def _share(self) -> Share:
        return Share() if self.trainer is None else Share(self.trainer.global_rank, self.trainer.world_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves frozen dataclasses, which Lightning itself refuses."""
        return batch.to(device) if isinstance(batch, Tensor) else to_device(batch, device)


def data_of(trainer: Trainer) -> LinkDataModule:
    """The :class:`LinkDataModule` that a trainer runs with.

    Raises:
        TypeError: it has another one, or none.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, LinkDataModule):
        raise TypeError(f"trainer: systems and callbacks work with a LinkDataModule, got {type(data).__name__}")
    return data


def _are_ends(pairs: Iterable[Tensor], num_nodes: int) -> Tensor:
    """``(num_nodes,)`` bool: nodes that stand in one of the tensors, without a sort or a copy of them all."""
    found = torch.zeros(num_nodes, dtype=torch.bool)
    for part in pairs:
        found[part.flatten()] = True
    return found
