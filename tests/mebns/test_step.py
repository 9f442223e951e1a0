"""The step equals its slow obvious twin, draws nothing but what its key names, and writes nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mebns_pl.data.train_batch import StepPairs
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, DirectionalEngine, HigherEngine
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.step import plain_step
from mebns_pl.models.predictor import PairInputs
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.first import FirstSelector
from references import step as reference
from references.effort import some
from references.step import Setting

ENGINES = [HigherEngine(), DirectionalEngine()]
# Candidates tie where a unit is dead, and rounding then decides who is first: under this key none do
KEY = Key(4, "tests/step")


def assert_twins(setting: Setting, num_steps: int) -> None:
    start = reference.make_state(setting)
    fast = {type(engine).__name__: copy.deepcopy(start) for engine in ENGINES}
    slow = start
    for step in range(num_steps):
        batch, meta_batch, key = (
            reference.make_batch(step, empty=setting.empty),
            reference.make_meta(step),
            KEY.at(0, step),
        )
        for engine in ENGINES:
            reference.fast_step(fast[type(engine).__name__], setting, batch, meta_batch, key, engine)
        slow = reference.slow_step(slow, setting, batch, meta_batch, key)
    expected = slow.tensors()
    for engine_name, state in fast.items():
        found = state.tensors()
        assert found.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(
                found[name],
                expected[name],
                rtol=1e-10,
                atol=1e-10,
                msg=lambda text, name=name, engine_name=engine_name: f"{engine_name}, {name}: {text}",
            )
    # Equality of what never moves would show nothing
    moved = {name.split(".")[0] for name, value in start.tensors().items() if not torch.equal(value, expected[name])}
    assert moved == {"student"} | ({"teacher"} if setting.learns else set()) | (
        {"weight_net"} if setting.meta else set()
    )


# Every encoder and every optimizer once; all pairs of them among the slow tests
QUICK = {("GCN", "adam"), ("GAT", "momentum"), ("SAGE", "adamw")}
ALL = itertools.product(("GCN", "GAT", "SAGE"), ("momentum", "adam", "adamw"))


@pytest.mark.parametrize(("encoder", "optimizer"), some(ALL, QUICK))
def test_twenty_steps_equal_the_slow_twin(encoder: str, optimizer: str) -> None:
    assert_twins(Setting(encoder=encoder, optimizer=optimizer), 20)


VARIANTS = {
    "clipping": Setting(clip=0.05, optimizer="sgd"),
    "clipping, adam": Setting(clip=0.05),
    "drop_top": Setting(drop_easy=0.2, drop_top=0.4),
    "no more at the top than are missing": Setting(drop_easy=0.2, drop_top=0.4, missing=1.0),
    "the teacher alone": Setting(drop_easy=0.4, alone=True),
    "drawn, no weight net": Setting(most=2, meta=False),
    "no filter": Setting(drop_easy=None),
    "frozen teacher": Setting(learns=False),
    "first selector": Setting(selector="first"),
    "no more than two negatives": Setting(most=2, drop_easy=0.0),
    "hardly softened": Setting(floor=0.01, num_negatives=1),
    "softmax loss": Setting(loss="softmax"),
    "pairwise loss": Setting(loss="pairwise", clip=0.05),
    "margin loss, softmax meta loss": Setting(loss="margin", meta_loss="softmax"),
    "pairwise meta loss": Setting(meta_loss="pairwise", inputs=("rank", "gap")),
    "no weight net": Setting(meta=False),
    "self-adversarial": Setting(meta=False, selector="first", temperature=0.5),
    "self-adversarial and weight net": Setting(selector="first", drop_easy=0.0, temperature=0.5),
    "the sampler alone": Setting(meta=False, drop_easy=None),
    "sparse features": Setting(features="sparse"),
    "sparse features, SAGE": Setting(features="sparse", encoder="SAGE"),
    "sparse features, GAT": Setting(features="sparse", encoder="GAT"),
    "no features": Setting(features="none"),
    "no legal candidate at all": Setting(empty=True),
    "no legal candidate at all, no weight net": Setting(empty=True, meta=False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_equal_the_slow_twin(name: str) -> None:
    assert_twins(VARIANTS[name], 3)


def test_the_world_is_a_test() -> None:
    """Masked candidates, an anchor without any, a filter that drops, weights that differ, clipping that acts."""
    setting = Setting(drop_easy=0.3)
    batch = reference.make_batch(0)
    result = reference.fast_gradients(reference.make_state(setting), setting, batch, reference.make_meta(0), KEY)
    assert 0 < int(batch.candidate_mask.sum()) < batch.candidate_mask.numel()
    assert not batch.candidate_mask[2].any()
    assert result.negatives.kept.sum() < batch.candidate_mask.sum()
    alone = replace(setting, alone=True)
    other = reference.fast_gradients(reference.make_state(alone), alone, batch, reference.make_meta(0), KEY)
    assert not torch.equal(result.negatives.kept, other.negatives.kept)
    weights = result.negatives.weights[result.negatives.mask]
    assert weights.std() > 0.01
    norm = torch.cat([grad.flatten() for grad in result.learned["student"].dense]).norm()
    assert norm > VARIANTS["clipping"].clip


def test_filter_and_selector_share_the_students_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, batch = Setting(drop_easy=0.5), reference.make_batch(0)  # picks and positives are fewer than candidates
    state, sizes = reference.make_state(setting), []
    make = state.student.module.scorer

    def scorer(graph: Graph, key: Key | None) -> Callable[[PairInputs], Tensor]:
        score = make(graph, key)
        return lambda inputs: sizes.append(inputs.pairs.shape[1]) or score(inputs)

    monkeypatch.setattr(state.student.module, "scorer", scorer)
    reference.fast_gradients(state, setting, batch, reference.make_meta(0), KEY)
    assert sizes.count(batch.candidates.numel()) == 1


def test_logs_tell_what_was_done() -> None:
    setting = Setting()
    batch, meta_batch = reference.make_batch(0), reference.make_meta(0)
    state = reference.make_state(setting)
    result = reference.fast_gradients(state, setting, batch, meta_batch, KEY)
    negatives = result.negatives
    assert negatives.columns.shape == (5, 4)  # of five candidates the filter drops one
    assert not negatives.mask.view(5, 4)[2].any()
    assert bool((negatives.weights[~negatives.mask] == 0).all())
    torch.testing.assert_close(negatives.weights.sum(), negatives.mask.sum().double())
    anchors = batch.positives[0].repeat_interleave(4)
    nodes = batch.candidates.gather(1, negatives.columns).flatten()
    assert torch.equal(negatives.pairs, torch.stack([anchors, nodes]))
    assert bool(negatives.kept[negatives.mask.view(5, 4).any(1)].any(1).all())
    assert set(result.learned) == {"student", "teacher", "weight_net"}
    slow = reference.prepare(state, setting, batch, meta_batch, KEY)
    weights = list(negatives.weights[negatives.mask])
    expected = slow.loss_at(reference.params_of(state.student.module), weights).detach()
    torch.testing.assert_close(result.learned["student"].loss, expected)


def test_selectors_are_told_what_they_ask_for() -> None:
    """The positives' and candidates' logits of this very pass, and degrees in the whole training graph."""
    asked: dict[str, torch.Tensor] = {}

    class Asking(AbstractSelector):
        num_negatives = 1

        def select(self, mask: torch.Tensor, score: CandidateScores, rows: torch.Tensor, key: Key) -> Picks:
            asked.update(candidates=score(), positives=score.positives(), degrees=score.degrees())
            assert score.graph.num_nodes == reference.NUM_NODES
            return FirstSelector().select(mask, score, rows, key)

    setting = Setting(meta=False)
    state, batch, graph = reference.make_state(setting), reference.make_batch(0), reference.make_graph("dense")
    plain_step(state.student, Sampler(selector=Asking()), BinaryCrossEntropy(), batch, graph, KEY, SingleProcess())
    student, key = state.student.module, KEY.child("student")
    params, masked = reference.params_of(student), reference.graph_without(reference.Setting(), batch.union_positives)
    # The plain step draws no teacher negatives: names of pairs count those of the batch all the same
    expected = reference.candidate_pass(student, params, masked, batch, key)
    torch.testing.assert_close(asked["candidates"], torch.stack([torch.stack(row) for row in expected]).detach())
    positives = reference.positive_pass(student, params, masked, batch, key)
    torch.testing.assert_close(asked["positives"], torch.stack(positives).detach())
    assert not any(value.requires_grad for value in asked.values())
    edges = reference.make_edges().flatten().tolist()
    assert asked["degrees"].tolist() == [[edges.count(node) for node in row] for row in batch.candidates.tolist()]


# --- purity ---------------------------------------------------------------------------------------


def equal_results(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
def test_writes_nothing(engine: AbstractEngine) -> None:
    setting = Setting(clip=0.05, optimizer="momentum")
    state = reference.make_state(setting)
    batch, meta_batch = reference.make_batch(0), reference.make_meta(0)
    for step in range(2):
        reference.fast_step(
            state, setting, reference.make_batch(step), reference.make_meta(step), KEY.at(0, step), engine
        )
    marker = torch.full((), 7.0, dtype=torch.float64)
    learners = [state.student, state.teacher, state.weight_net]
    for learner in learners:
        learner.module.train()
        for param in learner.module.parameters():
            param.grad = marker.expand_as(param).clone()
    before, batch_before, meta_before = copy.deepcopy(state), copy.deepcopy(batch), copy.deepcopy(meta_batch)
    torch.manual_seed(1)
    random_state = torch.get_rng_state()

    reference.fast_gradients(state, setting, batch, meta_batch, KEY, engine)

    assert torch.equal(torch.get_rng_state(), random_state)
    for a, b in ((batch, batch_before), (meta_batch, meta_before)):
        assert all(
            torch.equal(value, getattr(b, name)) if isinstance(value, torch.Tensor) else value == getattr(b, name)
            for name, value in vars(a).items()
        )
    now, then = state.tensors(), before.tensors()
    assert now.keys() == then.keys()
    assert all(torch.equal(now[name], then[name]) for name in now)
    for learner, old in zip(learners, [before.student, before.teacher, before.weight_net], strict=True):
        assert learner.module.training
        assert learner.optimizer.param_groups[0]["lr"] == old.optimizer.param_groups[0]["lr"]
        assert all(param.requires_grad and bool((param.grad == 7).all()) for param in learner.module.parameters())


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
def test_the_key_names_every_draw(engine: AbstractEngine) -> None:
    setting = Setting()
    state = reference.make_state(setting)
    batch, meta_batch = reference.make_batch(0), reference.make_meta(0)
    results = []
    for seed, key in ((1, KEY), (2, KEY), (2, KEY.at(0, 1))):
        torch.manual_seed(seed)
        results.append(reference.fast_gradients(state, setting, batch, meta_batch, key, engine))
    for name in ("student", "teacher", "weight_net"):
        first, same, other = (result.learned[name].dense for result in results)
        assert equal_results(first, same), name
        assert not equal_results(first, other), name


def test_module_mode_does_not_matter() -> None:
    setting = Setting()
    state = reference.make_state(setting)
    batch, meta_batch = reference.make_batch(0), reference.make_meta(0)
    results = []
    for mode in (True, False):
        state.student.module.train(mode)
        state.teacher.module.train(mode)
        results.append(reference.fast_gradients(state, setting, batch, meta_batch, KEY))
    assert equal_results(results[0].learned["student"].dense, results[1].learned["student"].dense)


# --- without teacher and weight net ---------------------------------------------------------------


def test_plain_step_is_balanced_cross_entropy() -> None:
    setting = Setting(features="dense")
    student = reference.make_state(setting).student
    batch, graph = reference.make_batch(0), reference.make_graph("dense")
    result = plain_step(
        student, Sampler(selector=FirstSelector(2)), BinaryCrossEntropy(), batch, graph, KEY, SingleProcess()
    )
    assert set(result.learned) == {"student"}
    assert result.negatives.hardness is None

    anchors, nodes, labels, names = [], [], [], []
    for row, (anchor, node) in enumerate(batch.positives.t().tolist()):
        legal = [c for c in range(5) if batch.candidate_mask[row, c]][:2]
        for column, target, label in [(0, node, 1.0)] + [(1 + c, int(batch.candidates[row, c]), 0.0) for c in legal]:
            anchors.append(anchor)
            nodes.append(target)
            labels.append(label)
            names.append(row * 8 + column)
    label = torch.tensor(labels, dtype=torch.float64)
    inputs = student.module.prepare(
        reference.graph_without(reference.Setting(), batch.positives),
        torch.tensor([anchors, nodes]),
        torch.tensor(names),
        KEY.child("student"),
    )
    share = torch.where(label == 1, 0.5 / label.sum(), 0.5 / (1 - label).sum())
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        student.module(inputs), label, weight=share, reduction="sum"
    )
    torch.testing.assert_close(result.learned["student"].loss, loss.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(loss, list(student.module.parameters()), materialize_grads=True)
    for grad, want in zip(result.learned["student"].dense, expected, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-10, atol=1e-14)


def test_own_positives_are_left_out_of_message_passing() -> None:
    setting = Setting(meta=False)
    state, batch = reference.make_state(setting), reference.make_batch(0)
    no_edge = torch.tensor([[23], [23]]).expand(2, batch.positives.shape[1])
    grads = [
        reference.fast_gradients(state, setting, replace(batch, union_positives=union), reference.make_meta(0), KEY)
        .learned["student"]
        .dense
        for union in (batch.positives, no_edge)
    ]
    assert not torch.allclose(grads[0][0], grads[1][0], rtol=1e-3)


def test_pair_names_do_not_depend_on_the_cut() -> None:
    batch = reference.make_batch(0)
    whole = StepPairs(batch)
    two = slice(2, 4)
    cut = replace(batch, positives=batch.positives[:, two], candidates=batch.candidates[two], first_row=2)
    cut = replace(cut, candidate_mask=batch.candidate_mask[two], teacher_mask=batch.teacher_mask[two])
    part = StepPairs(replace(cut, teacher_negatives=batch.teacher_negatives[two]))
    names = {tuple([name, *pair]) for name, pair in zip(whole.names.tolist(), whole.pairs.t().tolist(), strict=True)}
    assert len(set(whole.names.tolist())) == 5 * (1 + 5 + 2)
    assert {
        tuple([name, *pair]) for name, pair in zip(part.names.tolist(), part.pairs.t().tolist(), strict=True)
    } <= names
    assert part.rows.tolist() == [2, 3]
    columns = torch.tensor([[0], [4]])
    assert torch.equal(part.pairs[1, part.picked(columns)], batch.candidates[2:4].gather(1, columns).flatten())


def test_sparse_features_are_sparse() -> None:
    assert isinstance(reference.make_graph("sparse").x, Features)
