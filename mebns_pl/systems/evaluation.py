"""What the systems share: graph, keyed randomness, validation, test and prediction."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.data.needs import Needs
from mebns_pl.distributed.group import AbstractGroup, SingleProcess
from mebns_pl.distributed.rank_watch import RankWatch
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.metrics.stage import StageMetrics, StageScores
from mebns_pl.models.batching import AbstractBatching, FullGraph, Nodes, PairScore
from mebns_pl.models.layers import parted_of
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.systems.scoring import AbstractScoring, Gate, StudentScoring
from mebns_pl.systems.trainer_options import callbacks_of, check_trainer
from mebns_pl.types import EvalBatch


class AbstractEvaluation(LightningModule, ABC):
    """A student predictor with the graph, validation, test and prediction.

    The message-passing graph comes from the data module (``train_graph``; in prediction ``full_graph``).

    Args:
        student: the predictor that is evaluated and used for prediction.
        batching: which part of the graph is looked at at once.
    """

    num_learners = 1

    def __init__(self, student: LinkPredictor, batching: AbstractBatching | None = None) -> None:
        super().__init__()
        refuse_batch_norm(student)
        self.student = student
        self.batching = batching or FullGraph()
        self.group: AbstractGroup = SingleProcess()
        self.key = Key(0, "step")
        self.run_config: dict[str, Any] | None = None  # the command line's options, in plain values
        self.stages: Mapping[str, StageMetrics] = nn.ModuleDict({name: StageMetrics() for name in ("val", "test")})  # type: ignore[assignment]
        self.scored: dict[str, StageScores] = {}
        """Of the last validation and test, while the trainer runs: ranks and scores, edge by edge."""
        self._graph: Graph | None = None
        self._score: PairScore | None = None
        self._scoring: AbstractScoring = StudentScoring()
        self._predict: PairScore | None = None

    # Before anything: the graph, the ranks, the seed

    @property
    def needs(self) -> Needs:
        """What this system needs of the data."""
        return Needs(
            most_pairs=2 * self.student.score_block,
            embed=self.embed if self.student.embeds else None,
            together=bool(parted_of(self.student)),
        )

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """The first that Lightning calls: refuses what these systems cannot do, and has the ranks watch each other."""
        check_trainer(self.trainer, self.num_learners)
        watched = bool(callbacks_of(self.trainer, RankWatch))
        return [] if watched or self.trainer.world_size == 1 else [RankWatch()]

    def setup(self, stage: str) -> None:
        """Takes the precision from the trainer."""
        if self.trainer.precision == "64-true":
            self.double()  # Lightning would do so after it has loaded a checkpoint, and round what it has loaded

    def teardown(self, stage: str) -> None:
        """Lets the graph go: the next stage may bring other data, or another device.

        Averages of weights, too: Lightning's callbacks would put those of a fit in the place of a checkpoint's.
        """
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback._average_model = None
        self._score = self._graph = self._predict = None
        self.scored = {}

    @property
    def data(self) -> LinkDataModule:
        """The run's data module.

        Raises:
            TypeError: the trainer was given something else.
        """
        return data_of(self.trainer)

    @property
    def graph(self) -> Graph:
        """The message-passing graph, where the data module's batching keeps it."""
        if self._graph is None:
            self._graph = self._placed(self.data.train_graph)
        return self._graph

    def _placed(self, graph: Graph) -> Graph:
        """On this module's device; with ``64-true`` the features are float64, too."""
        graph = self.batching.resident(graph, self.device)
        if graph.x is None or self.trainer.precision != "64-true":
            return graph
        return replace(graph, x=graph.x.type(torch.float64))

    def score(self, pairs: Tensor) -> Tensor:
        """The student's logits ``(m,)`` of ``pairs`` ``(2, m)`` on the training graph, without dropout or gradient."""
        with torch.no_grad():
            return self.batching.scorer(self.student, self.graph, self.device, lambda: pairs.flatten())(pairs)

    def embed(self, graph: Graph) -> Tensor | None:
        """The student's embeddings ``(N, C)`` of the nodes of ``graph``, on its device, or None where it has none."""
        with torch.no_grad():
            return self.batching.embeddings(self.student, graph, self.device)

    # Validation and test

    def _begin(self, nodes: Nodes) -> None:
        # Encodes once for all batches of the stage
        self._score = self.batching.scorer(self.student, self.graph, self.device, nodes)

    def _logits(self, pairs: Tensor) -> Tensor:
        assert self._score is not None
        return self._score(pairs)

    def _report(self, stage: str) -> dict[str, Tensor]:
        self._score = None
        values = {f"{stage}/{name}": value for name, value in self.stages[stage].compute().items()}
        for name, value in values.items():
            self.log(name, value.float(), prog_bar=name == "val/mrr")
        self.scored[stage] = self.stages[stage].scores()
        self.stages[stage].reset()
        return values

    def on_validation_epoch_start(self) -> None:
        """Encodes."""
        self._begin(lambda: self.data.eval_set("val").nodes)

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Ranks held-out edges."""
        self.stages["val"].update(self._logits, batch)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/mrr``, ``val/hits@k``, ``val/auc``, ``val/ap``."""
        self.validated(self._report("val"))

    def validated(self, values: dict[str, Tensor]) -> None:
        """Told the metrics of every validation, ``val/mrr`` and the others."""

    def on_test_epoch_start(self) -> None:
        """Encodes; where a protocol says so, message passing uses validation edges too."""
        self._graph = self._placed(self.data.test_graph)
        self._begin(lambda: self.data.eval_set("test").nodes)

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Ranks held-out edges."""
        self.stages["test"].update(self._logits, batch)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/mrr`` and the others."""
        self._report("test")
        self._graph = None

    # Prediction

    @property
    def gate(self) -> Gate | None:
        """The teacher, where there is one."""
        return None

    def logits_of(self, predictor: LinkPredictor) -> PairScore:
        """A function to another predictor's logits on the present graph, encoded here, without gradient."""
        with torch.no_grad():
            score = self.batching.scorer(predictor, self.graph, self.device)
        return torch.no_grad()(score)

    def score_by(self, scoring: AbstractScoring) -> None:
        """Sets what predictions are scored by; the student's logits by default.

        Raises:
            ValueError: this system cannot be scored so.
        """
        scoring.check(self.gate)
        self._scoring = scoring

    def on_predict_epoch_start(self) -> None:
        """Message passing uses every known edge from here on."""
        self._graph = self._placed(self.data.predict_graph)
        # Each rank has pairs of its own; where they look up tables together, all embed the same nodes
        self._begin(lambda: None if parted_of(self.student) else self.data.predicted_nodes)
        self._predict = self._scoring.scorer(self._logits, self.gate)

    def predict_step(self, batch: Tensor, batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(2, m)`` pairs -> the pairs with their logits ``(m,)``, -inf where the scoring rejects a pair."""
        assert self._predict is not None
        return batch, self._predict(batch)

    def on_predict_epoch_end(self) -> None:
        """Gives the whole graph back."""
        self._score = self._graph = self._predict = None


def refuse_batch_norm(module: nn.Module) -> None:
    """Refuses layers that learn from whole batches: the lookahead would change their buffers, and ranks would differ.

    Raises:
        ValueError: a BatchNorm layer, with its name.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            raise ValueError(
                f"predictor: {name} is a {type(layer).__name__}; batch statistics are not supported, use LayerNorm"
            )
