"""The contract of link predictors, for every concrete one that the package has."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial

import pytest
import torch

from mebns_pl import (
    GAT,
    GCN,
    NCN,
    SAGE,
    SEAL,
    DotDecoder,
    EncoderDecoder,
    LinearGCN,
    LinkPredictor,
    LPFormer,
    MLPDecoder,
    ResidualMLPDecoder,
    StructureMLP,
    StructurePredictor,
)
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.decoders import abstract
from mebns_pl.models.measure_predictor import MeasurePredictor
from mebns_pl.models.predictor import PREDICTORS, PairInputs
from mebns_pl.types import GraphSpec
from references.step import make_edges, make_features

KEY = Key(13, "tests/predictor")
PAIRS = torch.tensor([[0, 3, 22, 5, 23, 1], [1, 9, 0, 5, 2, 0]])
ROWS = torch.tensor([4, 0, 17, 3, 100, 8])

Build = Callable[[GraphSpec], LinkPredictor]


def mlp(encoder: type) -> Build:
    return partial(
        EncoderDecoder,
        encoder=partial(encoder, hidden_channels=4, dropout=0.3),
        decoder=partial(MLPDecoder, hidden_channels=4, dropout=0.3),
    )


def with_features(predictor: type[StructureMLP | StructurePredictor], spec: GraphSpec, **options) -> LinkPredictor:
    """With cosines of features, where the graph has any."""
    return predictor(spec, features=spec.num_features > 0, **options)


BUILDERS: dict[type, list[Build]] = {
    EncoderDecoder: [
        mlp(GCN), mlp(SAGE), mlp(GAT),
        partial(EncoderDecoder, encoder=partial(GCN, hidden_channels=4, dropout=0.3), decoder=DotDecoder),
        partial(
            EncoderDecoder,
            encoder=partial(LinearGCN, hidden_channels=4, embed_nodes=True, dropout=0.3),
            decoder=partial(ResidualMLPDecoder, dropout=0.3),
        ),
    ],
    LPFormer: [
        partial(
            LPFormer, encoder=partial(GCN, hidden_channels=4, dropout=0.3), hidden_channels=5, attention_channels=3,
            place_channels=2, dropout=0.3,
        ),
        partial(LPFormer, encoder=partial(SAGE, hidden_channels=4), hidden_channels=5, top=6, farther=0.05),
    ],
    NCN: [partial(NCN, encoder=partial(GCN, hidden_channels=4, dropout=0.3), hidden_channels=5, dropout=0.3)],
    StructureMLP: [
        partial(StructureMLP, hidden_channels=5, dropout=0.3), partial(StructureMLP, num_hops=1),
        partial(with_features, StructureMLP, hidden_channels=5, dropout=0.3),
    ],
    StructurePredictor: [
        partial(
            StructurePredictor, encoder=partial(GCN, hidden_channels=4, dropout=0.3), hidden_channels=5, dropout=0.3
        ),
        partial(StructurePredictor, encoder=partial(SAGE, hidden_channels=4), hidden_channels=5, num_hops=1),
        partial(
            with_features, StructurePredictor, encoder=partial(GCN, hidden_channels=4), hidden_channels=5, num_hops=1
        ),
    ],
    SEAL: [
        partial(SEAL, num_pooled=10, hidden_channels=4, num_layers=2, dropout=0.3),
        partial(SEAL, num_hops=2, num_pooled=11, hidden_channels=3, max_nodes_per_hop=4, use_features=False),
    ],
}  # fmt: skip


LEARN_NOTHING = {MeasurePredictor}  # without parameters and dropout; see test_measure_predictor.py
ALL = [build for cls in PREDICTORS.classes.values() if cls not in LEARN_NOTHING for build in BUILDERS.get(cls, [cls])]
"""What BUILDERS does not tell of is made of the graph's spec alone."""


def test_every_builder_makes_a_predictor_of_the_family() -> None:
    assert {*BUILDERS, *LEARN_NOTHING} <= {*PREDICTORS.classes.values()}
    assert len(ALL) >= sum(map(len, BUILDERS.values()))


@pytest.fixture(params=["dense", "sparse", "none"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return Graph.from_edges(make_edges(), 24, make_features(request.param)).without(PAIRS)


@pytest.fixture(params=ALL, ids=lambda build: "")
def predictor(request: pytest.FixtureRequest, graph: Graph) -> LinkPredictor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        predictor = request.param(graph.spec).double()
        for name, param in predictor.named_parameters():
            if "bias" in name:  # at 0, a node whose every entry is dropped stands on the ReLU's kink
                torch.nn.init.normal_(param)
    return predictor


@pytest.fixture(params=[None, KEY], ids=["deterministic", "stochastic"])
def key(request: pytest.FixtureRequest) -> Key | None:
    return request.param


def test_forward_gives_a_logit_a_pair(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    inputs = predictor.prepare(graph, PAIRS, ROWS, key)
    assert is_dataclass(inputs)
    assert inputs.key == key
    logits = predictor(inputs)
    assert logits.shape == (6,)
    assert logits.is_floating_point()
    assert bool(logits.isfinite().all())
    assert torch.equal(predictor(inputs), logits)


def test_scorer_equals_forward(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    inputs = predictor.prepare(graph, PAIRS, ROWS, key)
    score = predictor.scorer(graph, key)
    torch.testing.assert_close(score(inputs), predictor(inputs), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(score(inputs.select(slice(1, 3))), predictor(inputs)[1:3], rtol=1e-12, atol=1e-12)


def test_blocks_of_pairs_change_nothing(
    predictor: LinkPredictor, graph: Graph, key: Key | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without gradient; none at all is allowed too."""
    inputs = predictor.prepare(graph, PAIRS, ROWS, key)
    whole = predictor(inputs)
    monkeypatch.setattr(abstract, "CACHE_BLOCK", 4)
    with torch.no_grad():
        torch.testing.assert_close(predictor(inputs), whole.detach(), rtol=1e-6, atol=1e-6)
        assert predictor(inputs.select(torch.tensor([], dtype=torch.int64))).shape == (0,)
    assert torch.equal(predictor(inputs), whole)


def test_scorer_passes_gradients_on(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    inputs, params = predictor.prepare(graph, PAIRS, ROWS, key), list(predictor.parameters())
    both = [
        torch.autograd.grad(score(inputs).sum(), params, materialize_grads=True)
        for score in (predictor, predictor.scorer(graph, key))
    ]
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        assert not predictor.scorer(graph, key)(inputs).requires_grad


def test_select_picks_pairs(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    inputs = predictor.prepare(graph, PAIRS, ROWS, key)
    logits = predictor(inputs)
    mask = torch.tensor([True, False, True, True, False, False])
    for index in (torch.tensor([4, 0, 0, 2]), mask, slice(2, 5), torch.tensor([], dtype=torch.int64)):
        torch.testing.assert_close(predictor(inputs.select(index)), logits[index], rtol=1e-10, atol=1e-12)


def test_a_pair_does_not_depend_on_the_others(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    logits = predictor(predictor.prepare(graph, PAIRS, ROWS, key))
    for place in range(6):
        part = slice(place, place + 1)
        alone = predictor(predictor.prepare(graph, PAIRS[:, part], ROWS[part], key))
        torch.testing.assert_close(alone, logits[part], rtol=1e-10, atol=1e-12)


def test_rows_are_places_by_default(predictor: LinkPredictor, graph: Graph) -> None:
    by_default, by_name = (
        predictor.prepare(graph, PAIRS, key=KEY),
        predictor.prepare(graph, PAIRS, torch.arange(6), KEY),
    )
    assert torch.equal(predictor(by_default), predictor(by_name))


def test_the_key_alone_decides(predictor: LinkPredictor, graph: Graph) -> None:
    inputs = predictor.prepare(graph, PAIRS, ROWS, KEY)
    state = torch.get_rng_state()
    first = predictor.train()(inputs)
    assert torch.equal(predictor.eval()(inputs), first)
    assert not torch.equal(predictor(predictor.prepare(graph, PAIRS, ROWS, KEY.child("b"))), first)
    assert not torch.equal(predictor(predictor.prepare(graph, PAIRS, ROWS)), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_buffers_are_written(predictor: LinkPredictor, graph: Graph) -> None:
    before = {name: value.clone() for name, value in predictor.state_dict().items()}
    predictor.train()(predictor.prepare(graph, PAIRS, ROWS, KEY))
    assert all(torch.equal(value, before[name]) for name, value in predictor.state_dict().items())


def test_double_backward(predictor: LinkPredictor, graph: Graph) -> None:
    inputs, params = predictor.prepare(graph, PAIRS, ROWS, KEY), list(predictor.parameters())
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params]

    def gradient(create_graph: bool = False) -> list[torch.Tensor]:
        loss = predictor(inputs).tanh().pow(2).sum()
        return list(torch.autograd.grad(loss, params, create_graph=create_graph, materialize_grads=True))

    product = torch.autograd.grad(
        sum((g * d).sum() for g, d in zip(gradient(create_graph=True), direction, strict=True)),
        params,
        materialize_grads=True,
    )
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for param, d in zip(params, direction, strict=True):
                param += sign * 1e-6 * d
        sides.append(gradient())
        with torch.no_grad():
            for param, d in zip(params, direction, strict=True):
                param -= sign * 1e-6 * d
    for found, above, below in zip(product, *sides, strict=True):
        torch.testing.assert_close(found, (above - below) / 2e-6, rtol=1e-4, atol=1e-6)


def test_inputs_travel(predictor: LinkPredictor, graph: Graph, key: Key | None) -> None:
    """Loader workers send them to the main process."""
    inputs = predictor.prepare(graph, PAIRS, ROWS, key)
    logits = predictor(inputs)
    assert torch.equal(predictor(pickle.loads(pickle.dumps(inputs))), logits)


def test_teacher_and_student_have_weights_of_their_own(graph: Graph) -> None:
    for build in ALL:
        first, second = build(graph.spec), build(graph.spec)
        assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_pair_inputs_keep_names_with_pairs() -> None:
    graph = Graph.from_edges(make_edges(), 24)
    inputs = PairInputs(graph, PAIRS, ROWS, KEY).select(torch.tensor([5, 1]))
    assert inputs.pairs.tolist() == [[1, 3], [0, 9]]
    assert inputs.rows.tolist() == [8, 0]
    assert inputs.key == KEY
    assert inputs.graph is graph
    assert inputs.with_key(None).key is None
    assert inputs.with_key(None).rows is inputs.rows
