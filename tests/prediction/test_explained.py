"""Probabilities and reasons beside predicted links."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from mebns_pl import Graph, PredictionWriter, predict_links
from mebns_pl.prediction.calibration import calibrate, fit_calibration, reliability
from mebns_pl.prediction.explanation import common_neighbors
from mebns_pl.types import EdgeSplit
from references.runs import fit, make_data, make_plain, make_trainer


@given(st.integers(0, 10**6))
def test_calibration_equals_scikit_learns(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    edges, others = torch.randint(0, 9, (7,), generator=generator), torch.randint(-4, 6, (30,), generator=generator)
    found = fit_calibration(edges.float(), others.float(), 21, 600)
    logits = np.r_[edges, others, max(edges.max(), others.max())]
    is_edge, weights = np.r_[np.ones(7), np.zeros(31)], np.r_[np.full(7, 3.0), np.full(30, 20.0), 3.0]
    expected = IsotonicRegression().fit(logits, is_edge, weights).predict(found.knots)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert found.values[-1] < 1


def test_probabilities_of_a_known_law_are_found_and_hold() -> None:
    """Of pairs with logit z the share sigmoid(z - 4) are edges; all are seen."""
    generator = torch.Generator().manual_seed(0)

    def drawn() -> tuple[torch.Tensor, torch.Tensor, float, float]:
        logits = 3 * torch.randn(200_000, generator=generator)
        is_edge = torch.rand(len(logits), generator=generator) < (logits - 4).sigmoid()
        return logits[is_edge], logits[~is_edge], int(is_edge.sum()), int((~is_edge).sum())

    told = fit_calibration(*drawn())
    asked = torch.tensor([0.0, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(told.probability(asked), (asked - 4).sigmoid().numpy(), atol=0.05)
    table = reliability(told, *drawn())
    np.testing.assert_allclose(table["told"], table["found"], atol=0.03)
    assert (table["found"].between(table["from"] - 0.01, table["to"] + 0.01)).all()


def test_reasons_equal_sets() -> None:
    generator = torch.Generator().manual_seed(1)
    pairs = torch.combinations(torch.arange(12)).t()
    edges = pairs[:, torch.rand(pairs.shape[1], generator=generator) < 0.45]
    graph, names = Graph.from_edges(edges, 12), [f"n{i}" for i in range(12)]
    near = [{v for u, v in graph.edge_index.t().tolist() if u == node} for node in range(12)]
    for told, (u, v) in zip(common_neighbors(graph, pairs, names), pairs.t().tolist(), strict=True):
        both = sorted(near[u] & near[v], key=lambda node: (len(near[node]), node))
        count, _, few = told.partition(" common neighbour")
        assert count == (str(len(both)) if both else "no")
        shown = few.partition(": ")[2].removesuffix(", ...")
        assert shown == ", ".join(f"n{node}" for node in both[:3])
        assert few.endswith(", ...") == (len(both) > 3)


def test_predicted_links_are_explained_and_capped() -> None:
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data, epochs=2)
    plain = predict_links(system, data, 20, trainer=make_trainer())
    links = predict_links(system, data, 20, explain=True, trainer=make_trainer())
    assert list(links.columns) == ["rank", "source", "target", "score", "probability", "logit", "why"]
    assert links[list(plain.columns)].equals(plain)  # the plain order is the default, and stays
    assert links["probability"].between(0, 1).all()
    assert links["probability"].is_monotonic_decreasing
    assert links["why"].str.contains("common neighbour").all()
    assert {"told", "found", "edges"} <= set(links.attrs["reliability"][0])
    few = predict_links(system, data, 20, max_per_node=2, trainer=make_trainer())
    assert len(few) == 20
    assert few[["source", "target"]].stack().value_counts().max() == 2


def test_without_validation_edges_no_probability_is_told() -> None:
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data, epochs=1)
    rest = torch.cat([data.split.train, data.split.val], dim=1)
    assert calibrate(system, data) is not None
    data.split = dataclasses.replace(data.split, train=rest, val=rest[:, :0])
    assert isinstance(data.split, EdgeSplit)
    links = predict_links(system, data, 5, explain=True, trainer=make_trainer())
    assert "probability" not in links
    assert "why" in links


def test_a_cap_goes_with_one_list() -> None:
    with pytest.raises(ValueError, match="per_node, max_per_node: expected one of the two"):
        PredictionWriter(None, per_node=True, max_per_node=3)
