"""Exact ranks against every node: CPU seconds and memory, beside one matrix of all scores, which small graphs allow.

    python benchmarks/all_nodes.py --nodes 10000 100000 --edges 200

Random graphs of ten edges a node, a GCN of one layer of 64, a dot product and an MLP. The matrix scores every edge
against every node at once and masks known edges by a loop. CPU seconds of one thread. Prints a table and, as the last
line, one JSON object.
"""

from __future__ import annotations

import json
import time
from functools import partial

import torch
from _runs import begin, parser_of, peak_gb
from full_graph import power_law
from rich.console import Console
from torch import Tensor

import mebns_pl as m
from mebns_pl.data.batches import EvalChunks
from mebns_pl.evaluation.all_nodes import AllNodesBatch, AllNodesComparison
from mebns_pl.evaluation.protocols import RandomParting
from mebns_pl.metrics.functional import ranks
from mebns_pl.metrics.stage import StageMetrics
from mebns_pl.terminal import text_table
from mebns_pl.types import Share

DECODERS = {"dot": m.DotDecoder, "MLP": partial(m.MLPDecoder, hidden_channels=64)}


def by_parts(model: m.EncoderDecoder, data: m.LinkDataModule, num_edges: int) -> Tensor:
    """``(p,)`` ranks as a test finds them."""
    score = m.FullGraph().scorer(model, data.train_graph, "cpu")
    metrics, chunks, index = StageMetrics(), EvalChunks(data.eval_set("test"), Share()), 0
    while sum(len(part) for part in metrics.ranking["mrr"].ranks) < num_edges:
        metrics.update(score, chunks[index])
        index += 1
    return metrics.scores().ranks[:num_edges]


def by_matrix(model: m.EncoderDecoder, data: m.LinkDataModule, num_edges: int) -> Tensor:
    """``(p,)`` ranks from all scores at once, known edges struck out in a loop."""
    whole = data.eval_set("test")
    assert isinstance(whole, AllNodesBatch)
    h, known, positives = model.embeddings(data.train_graph), whole.known, data.split.test[:, :num_edges]
    assert known is not None
    rows, columns = torch.arange(len(h)), []
    for end in (0, 1):
        kept = h[positives[end]]
        if isinstance(model.decoder, m.DotDecoder):
            scores = kept @ h.t() + model.decoder.bias
        else:
            scores = torch.stack([model.decoder(row.expand_as(h), h, rows) for row in kept])
        for row, node in enumerate(positives[end].tolist()):
            scores[row, known.indices[known.indptr[node] : known.indptr[node + 1]]] = -torch.inf
            scores[row, node] = -torch.inf
        columns.append(scores)
    own = model.decoder(h[positives[0]], h[positives[1]], rows[:num_edges])
    return ranks(own, torch.cat(columns, dim=1))


def main() -> None:
    """Measures and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--edges", type=int, default=200, help="held-out edges")
    options = parser.parse_args()
    begin()
    found: dict[str, dict[str, float]] = {}
    for nodes in options.nodes:
        data = m.LinkDataModule(protocol=m.Protocol(RandomParting(0.01, 0.01), AllNodesComparison()))
        data.loaded = power_law(10 * nodes)
        for name, decoder in DECODERS.items():
            model = m.EncoderDecoder(data.spec, partial(m.GCN, hidden_channels=64, num_layers=1), decoder).eval()
            seconds, ranked = {}, {}
            for way, measure in {"parts": by_parts, "matrix": by_matrix}.items():
                start = time.process_time()
                with torch.no_grad():
                    ranked[way] = measure(model, data, options.edges)
                seconds[way] = round(time.process_time() - start, 3)
            same = float((ranked["parts"] == ranked["matrix"]).double().mean())
            ratio = round(seconds["parts"] / seconds["matrix"], 2)
            found[f"{nodes:,} {name}"] = {**seconds, "ratio": ratio, "same ranks": same, "peak GB": round(peak_gb(), 2)}
    rows = [(name, *(f"{value:.3g}" for value in row.values())) for name, row in found.items()]
    heads = ["parts s", "matrix s", "parts / matrix", "same ranks", "peak GB"]
    Console().print(f"CPU seconds for {options.edges} edges", text_table(["nodes, decoder"], heads, rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
