"""What makes MeBNS better or worse: one factor at a time, by validation, on Cora and CiteSeer.

Every variant is a configuration: options on top of configs/sampler/dns.yaml. Three parts: one factor at a time round
the former defaults; the filter's band, the weights' bound and the student's start together, round what won; and what
won, now the default, round three samplers on four graphs, where test edges are looked at. Resumable: each finished run
is a row of docs/results/quality.csv, and rows that are there are not run again.

    python benchmarks/quality.py factors --root ../shared/data --jobs 2
    python benchmarks/quality.py factors --report                    # only the table
    python benchmarks/quality.py together --root ../shared/data --jobs 2
    python benchmarks/quality.py winners --root ../shared/data --jobs 2
"""

from __future__ import annotations

from itertools import product
from math import nan
from pathlib import Path
from typing import Any

from _runs import fill, gain, head, line, parser_of, read, told
from sampler_table import FIELDS, run

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "quality.csv"
Config = dict[str, Any]


def model(**options: Any) -> Config:
    """Options of the system."""
    return {"model": {"init_args": options}}


def sampling(**options: Any) -> Config:
    """Options of the sampler."""
    return model(sampler=options)


def instance(name: str, **options: Any) -> Config:
    """An object of the package."""
    return {"class_path": f"mebns_pl.{name}", "init_args": options}


def nearest() -> Config:
    """The 250 nodes of least rank by PageRank or resource allocation."""
    measures = [{"class_path": f"mebns_pl.{name}"} for name in ("PersonalizedPageRank", "ResourceAllocation")]
    return instance("ProximityProposal", measure=instance("MinRank", measures=measures), top=250)


def near(share: float) -> Config:
    """Candidates of which so large a share are from :func:`nearest`."""
    parts = [{"class_path": "mebns_pl.UniformProposal"}, nearest()]
    return sampling(proposal=instance("MixtureProposal", proposals=parts, weights=[1 - share, share]))


def picks(count: int, temperature: float | None = None) -> Config:
    """Learn from all of so many candidates, weighted by the softmax of the student's logits where a temperature is."""
    selector = instance("FirstSelector", num_negatives=count)
    if temperature is None:
        return sampling(selector=selector)
    return sampling(selector=selector, weighting=instance("SelfAdversarialWeighting", temperature=temperature))


def structural(share: float, count: int = 1, structure: Config | None = None) -> Config:
    """What the teacher learns from; the structure is that of the meta set, too."""
    default = instance("ProximityProposal", measure={"class_path": "mebns_pl.PersonalizedPageRank"}, top=50)
    generator = instance("StdGenerator", structure_ratio=share, num_negatives=count)
    return {"data": {"structure": structure or default}, **model(std_generator=generator)}


def collector(**options: Any) -> Config:
    """How the meta set is made."""
    return model(collector=instance("UMDCollector", **options))


def joined(*configs: Config) -> Config:
    """All of them, later ones on top."""
    result: Config = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict) and "class_path" not in value
            result[key] = joined(result[key], value) if both else value
    return result


def schedule(warmup: int, teacher: int | None = None, student_from_teacher: bool = False) -> Config:
    """Warm-up and freezing."""
    return model(schedule={"warmup": warmup, "teacher": teacher, "student_from_teacher": student_from_teacher})


def band(drop_easy: float, drop_top: float = 0.0) -> Config:
    """What the filter drops."""
    return model(filter=instance("TeacherFilter", drop_easy=drop_easy, drop_top=drop_top))


def weights(max_score: float, **options: Any) -> Config:
    """How far weights may differ, and by what."""
    return model(weight_net=instance("WeightNet", max_score=max_score, **options))


def meta_edges(share: float) -> Config:
    """How many edges are set apart."""
    return {"data": {"split": {"meta": share}}}


# Factors that change the sampler itself: each with a control of its own
SAMPLERS: dict[str, Config] = {
    "DNS of 8": {},
    "DNS of 16": sampling(num_candidates=16),
    "DNS of 8, half near": near(0.5),
    "DNS of 8, all near": near(1.0),
    "all 8": picks(8),
    "all 8, softmax": picks(8, 1.0),
    "all 8, softmax, half near": joined(picks(8, 1.0), near(0.5)),
}
FORMER = joined(schedule(5), band(0.5), weights(0.3), meta_edges(0.05))
FACTORS: dict[str, Config] = {
    "former default": {},
    # the split
    "meta edges 1 %": meta_edges(0.01),
    "meta edges 2 %": meta_edges(0.02),
    # schedule
    "warm-up 20": schedule(20),
    "warm-up 50": schedule(50),
    "teacher frozen at 20": schedule(20, 20),
    "student from teacher at 20": schedule(20, None, True),
    "student from teacher at 20, frozen": schedule(20, 20, True),
    # filter
    "drop easy 0": band(0.0),
    "drop easy 0.25": band(0.25),
    "drop easy 0.75": band(0.75),
    "drop top 0.125": band(0.5, 0.125),
    # teacher
    "teacher's structure 0": structural(0.0),
    "teacher's structure 1": structural(1.0),
    "teacher's negatives 4": structural(0.5, 4),
    "wide structure": structural(0.5, 1, nearest()),
    "wide structure, student from teacher at 20": joined(structural(0.5, 1, nearest()), schedule(20, None, True)),
    "wide structure 1, student from teacher at 50": joined(structural(1.0, 1, nearest()), schedule(50, None, True)),
    # meta set
    "meta structure 0": collector(structure_ratio=0.0),
    "meta structure 0.5": collector(structure_ratio=0.5),
    "meta strata 1": collector(num_strata=1),
    "meta keeps all": collector(keep_fraction=1.0),
    # meta learner
    "weights off": weights(1e-6),
    "weights to 1": weights(1.0),
    "weights by loss": weights(0.3, inputs=["loss"]),
    "weights by hardness": weights(0.3, inputs=["hardness"]),
    "last block": model(engine=instance("LastBlock", names=["encoder.biases"])),
}
# What won: a band that drops the top, narrow weights, a student that starts from a frozen teacher, fewer meta edges
BASE = joined(schedule(20, 20, True), band(0.125, 0.25), weights(0.1), meta_edges(0.02))
TOGETHER: dict[str, Config] = {
    "together": {},
    "together, drop top 0": band(0.125, 0.0),
    "together, drop top 0.125": band(0.125, 0.125),
    "together, drop top 0.375": band(0.125, 0.375),
    "together, drop easy 0": band(0.0, 0.25),
    "together, drop easy 0.25": band(0.25, 0.25),
    "together, drop easy 0.5": band(0.5, 0.25),
    "together, weights off": weights(1e-6),
    "together, weights to 0.3": weights(0.3),
    "together, teacher goes on": schedule(20, None, True),
    "together, student from the start": schedule(20, 20),
    "together, student from the start, warm-up 5, teacher goes on": schedule(5),
    "together, from teacher at 10": schedule(10, 10, True),
    "together, from teacher at 40": schedule(40, 40, True),
    "together, drop easy 0.25, top 0.375": band(0.25, 0.375),
    "together, meta edges 1 %": meta_edges(0.01),
    "together, meta edges 5 %": meta_edges(0.05),
}
CONTROL = "plain, DNS of 8"
ROUND: dict[str, Config] = {
    "uniform": picks(1),
    "DNS of 8": {},
    "DNS(2, 8)": sampling(selector=instance("TopSelector", top=2)),
    "DNS of 8, half near": near(0.5),
}
PARTS: dict[str, dict[str, tuple[str, Config]]] = {
    "factors": {
        **{f"plain, {name}": ("Plain", config) for name, config in SAMPLERS.items()},
        **{f"MeBNS, {name}": ("MeBNS", joined(FORMER, config)) for name, config in SAMPLERS.items() if config},
        **{name: ("MeBNS", joined(FORMER, config)) for name, config in FACTORS.items()},
    },
    "together": {
        CONTROL: ("Plain", {}),
        **{name: ("MeBNS", joined(BASE, config)) for name, config in TOGETHER.items()},
    },
    "winners": {
        f"{kind}{sampler}": (system, config)
        for sampler, config in ROUND.items()
        for kind, system in (("plain, ", "Plain"), ("MeBNS round ", "MeBNS"))
    },
}
GRAPHS = {part: ["cora", "citeseer", *(["usair", "yeast"] if part == "winners" else [])] for part in PARTS}


def work(graph: str, part: str, variant: str, seed: int, epochs: int, root: str | None) -> list[Config]:
    """Trains one and returns its row."""
    kind, config = PARTS[part][variant]
    return [{"variant": variant, **row} for row in run(graph, "dns", kind, seed, root, epochs, config)]


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = parser_of(__doc__, fills=True)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--graphs", nargs="+", help="those of the part unless told")
    parser.add_argument("--variants", nargs="+", help="all of the part unless told")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    graphs, variants = args.graphs or GRAPHS[args.part], args.variants or list(PARTS[args.part])
    if unknown := set(variants) - set(PARTS[args.part]):
        parser.error(f"--variants: {args.part} has no {sorted(unknown)}; it has {list(PARTS[args.part])}")
    whole = [row for row in read(RESULTS) if row["churn@1"] or args.part == "factors"]  # the last row of a cell counts
    done = {(row["graph"], row["variant"], int(row["seed"]), int(row["epochs"])) for row in whole}
    wanted = product(args.seeds, graphs, variants)
    missing = [
        (graph, args.part, variant, seed, args.epochs, args.root)
        for seed, graph, variant in wanted
        if (graph, variant, seed, args.epochs) not in done and not args.report
    ]
    fill(RESULTS, ("variant", *FIELDS), work, missing, args.jobs)
    rows = [row for row in read(RESULTS) if int(row["epochs"]) == args.epochs and int(row["seed"]) in args.seeds]
    if args.part == "winners":
        report_test(rows, graphs, variants)
    else:
        report(rows, graphs, variants, churn=args.part == "together")


def column(rows: list[dict[str, str]], graph: str, variant: str, name: str) -> list[float]:
    """One number for each seed of any row, NaN where this variant has none."""
    chosen = [row for row in rows if (row["graph"], row["variant"]) == (graph, variant)]
    by_seed = {row["seed"]: float(row[name] or "nan") for row in chosen}
    return [by_seed.get(seed, nan) for seed in sorted({row["seed"] for row in rows})]


def report(rows: list[dict[str, str]], graphs: list[str], variants: list[str], churn: bool) -> None:
    """Prints a Markdown table: validation only, so that what is chosen by it has not seen the test edges."""
    names = {"val_mrr": "val MRR", **({"churn@1": "churn@1"} if churn else {})}
    columns = [column for name in names.values() for column in (name, "- DNS")]
    head("variant", *(f"{graph}: {column}" for graph in graphs for column in columns))
    for variant in variants:
        cells = []
        for graph, name in product(graphs, names):
            own, control = (column(rows, graph, which, name) for which in (variant, CONTROL))
            cells += [told(own), gain(own, control) if variant != CONTROL else ""]
        line(variant, *cells)


def report_test(rows: list[dict[str, str]], graphs: list[str], variants: list[str]) -> None:
    """Prints a Markdown table: each sampler alone and inside MeBNS, in test."""
    names = {"test_mrr": "test MRR", "test_auc": "AUC", "churn@1": "churn@1", "val_mrr": "val MRR"}
    head("graph", "negatives", *names.values(), *(f"{name} - plain" for name in names.values()))
    for graph, variant in product(graphs, variants):
        values = {name: column(rows, graph, variant, name) for name in names}
        control = variant.replace("MeBNS round ", "plain, ")
        gains = [gain(own, column(rows, graph, control, name)) for name, own in values.items()]
        line(graph, variant, *map(told, values.values()), *(gains if variant != control else [""] * len(names)))


if __name__ == "__main__":
    main()
