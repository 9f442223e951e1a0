"""Whether cheap hypergradients and a frozen teacher cost quality: MeBNS(DNS) with each, over seeds.

Resumable: each finished run is a row of docs/results/engines.csv, and rows that are there are not run again. The epoch
is chosen on validation MRR.

    python benchmarks/engines.py --root DATA --jobs 2
    python benchmarks/engines.py --report      # only the table, from the CSV
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from _runs import begin, fill, head, line, parser_of, read, told, train

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "engines.csv"
FIELDS = ("graph", "system", "seed", "epochs", "val_mrr", "test_mrr", "test_auc")
GRAPHS = {"cora": (1024, 100), "pubmed": (8192, 50)}  # batch size, epochs
SYSTEMS = ("exact", "cheap", "frozen_exact", "frozen_cheap")


def run(graph: str, system: str, seed: int, root: str | None) -> list[dict[str, str | float]]:
    """Trains one configuration and returns its row."""
    import torch
    from lightning.pytorch import seed_everything

    import mebns_pl as m

    begin()
    seed_everything(seed, verbose=False)
    batch_size, epochs = GRAPHS[graph]
    split = m.SplitFractions(meta=0.05)
    data = m.LinkDataModule(graph=graph, root=root, batch_size=batch_size, seed=seed, split=split)
    encoder = partial(m.GCN, hidden_channels=256, num_layers=1)
    adam = partial(torch.optim.Adam, lr=0.01)
    module = m.MeBNS(
        data.spec,
        partial(m.EncoderDecoder, encoder=encoder, decoder=m.DotDecoder),
        m.Sampler(num_candidates=8, selector=m.HardestSelector(1)),
        adam,
        adam,
        weight_net=partial(m.WeightNet, max_score=0.3),  # wide, so that what an engine gets wrong can be seen
        weight_net_optimizer=partial(torch.optim.Adam, lr=0.001),
        filter=m.TeacherFilter(drop_easy=0.5, drop_top=0.0),
        engine=m.Every(4, m.LastBlock(["encoder.biases"])) if system.endswith("cheap") else m.HigherEngine(),
        schedule=m.Schedule(warmup=5),
        teaching=m.OwnLearning(epochs=epochs // 5 if system.startswith("frozen") else None),
    )
    found = train(module, data, epochs)
    values = (graph, system, seed, epochs, found["val"], found["test/mrr"], found["test/auc"])
    return [dict(zip(FIELDS, values, strict=True))]


def report(rows: list[dict[str, str]]) -> None:
    """Prints a Markdown table; a cheap system's gap is given in standard deviations of the exact one."""
    head("graph", "system", "seeds", "test MRR", "AUC", "gap to exact, in its std")
    for graph in GRAPHS:
        exact: list[float] = []
        for system in SYSTEMS:
            own = [row for row in rows if (row["graph"], row["system"]) == (graph, system)]
            values, areas = ([float(row[name]) for row in own] for name in ("test_mrr", "test_auc"))
            if len(values) < 2:
                line(graph, system, len(values), "not run", "", "")
                continue
            exact = exact or values
            gap = (mean(values) - mean(exact)) / stdev(exact)
            line(graph, system, len(values), told(values, 4), told(areas, 4), f"{gap:+.2f}")


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = parser_of(__doc__, fills=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    done = {(row["graph"], row["system"], int(row["seed"])) for row in read(RESULTS)}
    cells = [] if args.report else [c for c in product(GRAPHS, SYSTEMS, range(args.seeds)) if c not in done]
    fill(RESULTS, FIELDS, run, [(*cell, args.root) for cell in cells], args.jobs)
    report(read(RESULTS))


if __name__ == "__main__":
    main()
