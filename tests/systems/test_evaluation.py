"""What both systems share: validation, test and prediction against an obvious recomputation, and what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from mebns_pl import GCN, DotDecoder, EncoderDecoder, LinkPredictor, MeBNS, Plain
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.graph.csr import Graph
from mebns_pl.systems.evaluation import refuse_batch_norm
from mebns_pl.systems.link_system import AbstractLinkSystem, descend
from mebns_pl.types import EvalBatch, GraphSpec
from references.runs import MAKE, equal, fit, make_data, make_loaded, make_mebns, make_plain, make_trainer, weights

KS = (1, 3, 10, 20, 50, 100)


def logit(system: AbstractLinkSystem, graph: Graph, u: int, v: int) -> float:
    """One pair by itself."""
    pair = torch.tensor([[u], [v]])
    with torch.no_grad():
        return float(system.student(system.student.prepare(graph, pair)))


def expected_metrics(system: AbstractLinkSystem, graph: Graph, batches: list[EvalBatch]) -> dict[str, float]:
    """Ranks and pairs counted one by one."""
    ranks, positives, negatives = [], [], []
    for batch in batches:
        for place in range(batch.positives.shape[1]):
            score = logit(system, graph, *batch.positives[:, place].tolist())
            others = [logit(system, graph, u, v) for u, v in batch.negatives[:, place].t().tolist()]
            ranks.append(1 + sum(o > score for o in others) + 0.5 * sum(o == score for o in others))
            positives.append(score)
            negatives.append(logit(system, graph, *batch.random_negatives[:, place].tolist()))
    wins = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    precisions = [
        sum(q >= p for q in positives) / (sum(q >= p for q in positives) + sum(n >= p for n in negatives))
        for p in positives
    ]
    return {
        "mrr": sum(1 / rank for rank in ranks) / len(ranks),
        **{f"hits@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in KS},
        "auc": sum(wins) / len(wins),
        "ap": sum(precisions) / len(precisions),
    }


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_validation_and_test_metrics_equal_a_recomputation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 50)  # several chunks
    monkeypatch.setattr(LinkPredictor, "score_block", 7)  # and several blocks in each
    data = make_data()
    system = MAKE[kind](data.spec)
    trainer = fit(system, data, epochs=2)
    during_fit = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    for stage, run, loader in (
        ("val", trainer.validate, data.val_dataloader()),
        ("test", trainer.test, data.test_dataloader()),
    ):
        assert len(loader) > 1
        expected = expected_metrics(system, data.train_graph, list(loader))
        (found,) = run(system, data, verbose=False)
        assert found == pytest.approx({f"{stage}/{name}": value for name, value in expected.items()}, abs=1e-6)
        if stage == "val":
            assert during_fit == pytest.approx(found, abs=1e-7)
            # Metrics start anew in every stage
            assert run(system, data, verbose=False) == [found]
    assert 0.05 < expected["mrr"] < 0.95  # neither trivially good nor bad: a wrong rank would show


def test_no_test_metrics_during_fit() -> None:
    data = make_data()
    trainer = fit(make_plain(data.spec), data, epochs=1)
    assert not [name for name in trainer.callback_metrics if name.startswith("test/")]


def test_evaluation_does_not_change_weights_or_draw_random_numbers() -> None:
    data = make_data()
    system = make_plain(data.spec)
    before, state = weights(system), torch.get_rng_state()
    trainer = make_trainer()
    trainer.validate(system, data, verbose=False)
    trainer.test(system, data, verbose=False)
    trainer.predict(system, data)
    assert equal(weights(system), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_score_is_without_dropout_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    system = make_plain(data.spec)
    make_trainer().validate(system, data, verbose=False)
    system.train()
    pairs = torch.tensor([[0, 5, 3, 7, 40], [1, 9, 30, 2, 3]])
    found = system.score(pairs)
    assert not found.requires_grad
    expected = [logit(system, data.train_graph, *pair) for pair in pairs.t().tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))
    monkeypatch.setattr(LinkPredictor, "score_block", 2)
    torch.testing.assert_close(system.score(pairs), found)


def test_prediction_passes_messages_over_every_known_edge() -> None:
    data = make_data()
    system = make_plain(data.spec)
    trainer = fit(system, data, epochs=1)
    blocks = trainer.predict(system, data)
    pairs, logits = torch.cat([pairs for pairs, _ in blocks], dim=1), torch.cat([logits for _, logits in blocks])
    assert pairs.shape[1] == len(logits) == 41 * 40 // 2 - data.loaded.num_edges
    torch.testing.assert_close(
        logits[:20], torch.tensor([logit(system, data.full_graph, *p) for p in pairs[:, :20].t().tolist()])
    )
    on_train = torch.tensor([logit(system, data.train_graph, *p) for p in pairs[:, :20].t().tolist()])
    assert not torch.allclose(logits[:20], on_train, rtol=1e-3)
    # Afterwards message passing is the training graph's again: a test after a prediction must not see the answers
    torch.testing.assert_close(system.score(pairs[:, :20]), on_train)


def test_a_system_that_moves_on_takes_the_graph_of_its_new_data() -> None:
    one, other = make_data(), make_data(seed=5)
    system = make_plain(one.spec)
    fit(system, one, epochs=1)
    trainer = make_trainer()
    found = trainer.test(system, other, verbose=False)[0]["test/mrr"]
    expected = expected_metrics(system, other.train_graph, list(other.test_dataloader()))["mrr"]
    leaked = expected_metrics(system, one.train_graph, list(other.test_dataloader()))["mrr"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert leaked != pytest.approx(expected, abs=1e-3)


# --- refusals -------------------------------------------------------------------------------------------------------


class WithBatchNorm(EncoderDecoder):
    def __init__(self, spec: GraphSpec) -> None:
        super().__init__(spec, partial(GCN, hidden_channels=4), DotDecoder)
        self.norm = nn.BatchNorm1d(4)


@pytest.mark.parametrize("system", [Plain, MeBNS])
def test_batch_norm_is_refused(system: type[AbstractLinkSystem]) -> None:
    with pytest.raises(ValueError, match="predictor: norm is a BatchNorm1d; .* use LayerNorm"):
        system(GraphSpec(5), predictor=WithBatchNorm)  # type: ignore[call-arg]


def test_batch_norm_anywhere_is_refused_and_layer_norm_is_not() -> None:
    refuse_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    for layer in (nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.LazyBatchNorm1d()):
        with pytest.raises(ValueError, match=rf"predictor: 0\.1 is a {type(layer).__name__}"):
            refuse_batch_norm(nn.Sequential(nn.Sequential(nn.Linear(2, 2), layer)))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_a_trainer_without_our_data_module_is_refused(kind: str) -> None:
    data = make_data()
    data.setup("fit")
    loader = data.train_dataloader()
    system = MAKE[kind](data.spec)
    with pytest.raises(TypeError, match="work with a LinkDataModule, got NoneType"):
        make_trainer().fit(system, train_dataloaders=loader)
    with pytest.raises(TypeError, match="work with a LinkDataModule, got NoneType"):
        make_trainer().validate(MAKE[kind](data.spec), data.val_dataloader(), verbose=False)


def test_a_model_built_for_another_graph_is_refused() -> None:
    data = make_data()
    with pytest.raises(ValueError, match="graph: the model was built for .*num_features=0.*, got .*num_features=5"):
        make_trainer().validate(make_plain(GraphSpec(41)), data, verbose=False)


# --- applying gradients ---------------------------------------------------------------------------------------------


def test_applied_gradients_are_the_given_ones_and_none_stays() -> None:
    layer = nn.Linear(2, 1)
    before: list[Tensor] = [param.detach().clone() for param in layer.parameters()]
    optimizer = SGD(layer.parameters(), lr=0.5)
    for param in layer.parameters():
        param.grad = torch.full_like(param, 100.0)
    descend(optimizer, list(layer.parameters()), [torch.ones(1, 2), torch.full((1,), 2.0)])
    for param, old, moved in zip(layer.parameters(), before, (0.5, 1.0), strict=True):
        torch.testing.assert_close(param.detach(), old - moved)
        assert param.grad is None
    with pytest.raises(ValueError, match="zip"):
        descend(optimizer, list(layer.parameters()), [torch.ones(1, 2)])


def test_features_may_be_absent() -> None:
    data: LinkDataModule = make_data(make_loaded(features=False))
    for make in (make_plain, make_mebns):
        system = make(data.spec)
        before = weights(system.student)
        fit(system, data, epochs=2)
        assert not equal(before, weights(system.student))
