"""What makes MeBNS better or worse: one factor at a time, by validation, on Cora and CiteSeer.

Every variant is a configuration: options on top of configs/sampler/dns.yaml. Resumable: each finished run is a row of
docs/results/quality.csv, and rows that are there are not run again.

    python benchmarks/quality.py --root ../shared/data --jobs 2
    python benchmarks/quality.py --report                            # only the table
    python benchmarks/quality.py --graphs usair yeast --seeds 0 1 2 --variants "plain, DNS of 8" default
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from _runs import append, read
from sampler_table import FIELDS, run

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "quality.csv"
Config = dict[str, Any]


def model(**options: Any) -> Config:
    """Options of the system."""
    return {"model": {"init_args": options}}


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
    return {"data": {"proposal": instance("MixtureProposal", proposals=parts, weights=[1 - share, share])}}


def picks(count: int, temperature: float | None = None) -> Config:
    """Learn from all of so many candidates, weighted by the softmax of the student's logits where a temperature is."""
    selector = instance("FirstSelector", num_negatives=count)
    if temperature is None:
        return model(selector=selector)
    return model(selector=selector, weighting=instance("SelfAdversarialWeighting", temperature=temperature))


def structural(share: float, count: int = 1, structure: Config | None = None) -> Config:
    """What the teacher learns from; the structure is that of the meta set, too."""
    default = instance("ProximityProposal", measure={"class_path": "mebns_pl.PersonalizedPageRank"}, top=50)
    generator = instance("StdGenerator", structure=structure or default, structure_ratio=share, num_negatives=count)
    return {"data": {"std_generator": generator}}


def collector(**options: Any) -> Config:
    """How the meta set is made."""
    return {"data": {"collector": instance("UMDCollector", **options)}}


def joined(*configs: Config) -> Config:
    """All of them, later ones on top."""
    result: Config = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict) and "class_path" not in value
            result[key] = joined(result[key], value) if both else value
    return result


FACTORS: dict[str, Config] = {
    "default": {},
    # the split
    "meta edges 1 %": {"data": {"split": {"meta": 0.01}}},
    "meta edges 2 %": {"data": {"split": {"meta": 0.02}}},
    # schedule
    "warm-up 20": model(schedule={"warmup": 20}),
    "warm-up 50": model(schedule={"warmup": 50}),
    "teacher frozen at 20": model(schedule={"warmup": 20, "teacher": 20}),
    "student from teacher at 20": model(schedule={"warmup": 20, "student_from_teacher": True}),
    "student from teacher at 20, frozen": model(schedule={"warmup": 20, "teacher": 20, "student_from_teacher": True}),
    # filter
    "drop easy 0": model(teacher_filter=instance("TeacherFilter", drop_easy=0.0)),
    "drop easy 0.25": model(teacher_filter=instance("TeacherFilter", drop_easy=0.25)),
    "drop easy 0.75": model(teacher_filter=instance("TeacherFilter", drop_easy=0.75)),
    "drop top 0.125": model(teacher_filter=instance("TeacherFilter", drop_top=0.125)),
    # teacher
    "teacher's structure 0": structural(0.0),
    "teacher's structure 1": structural(1.0),
    "teacher's negatives 4": structural(0.5, 4),
    "wide structure": structural(0.5, 1, nearest()),
    "wide structure, student from teacher at 20": joined(
        structural(0.5, 1, nearest()), model(schedule={"warmup": 20, "student_from_teacher": True})
    ),
    "wide structure 1, student from teacher at 50": joined(
        structural(1.0, 1, nearest()), model(schedule={"warmup": 50, "student_from_teacher": True})
    ),
    # meta set
    "meta structure 0": collector(structure_ratio=0.0),
    "meta structure 0.5": collector(structure_ratio=0.5),
    "meta strata 1": collector(num_strata=1),
    "meta keeps all": collector(keep_fraction=1.0),
    # meta learner
    "weights off": model(weight_net=instance("WeightNet", max_score=1e-6)),
    "weights to 1": model(weight_net=instance("WeightNet", max_score=1.0)),
    "weights by loss": model(weight_net=instance("WeightNet", inputs=["loss"])),
    "weights by hardness": model(weight_net=instance("WeightNet", inputs=["hardness"])),
    "last block": model(engine=instance("LastBlock", names=["encoder.biases"])),
}
# Factors that change the sampler itself: each with a control of its own
SAMPLERS: dict[str, Config] = {
    "DNS of 8": {},
    "DNS of 16": {"data": {"num_candidates": 16}},
    "DNS of 8, half near": near(0.5),
    "DNS of 8, all near": near(1.0),
    "all 8": picks(8),
    "all 8, softmax": picks(8, 1.0),
    "all 8, softmax, half near": joined(picks(8, 1.0), near(0.5)),
}
VARIANTS: dict[str, tuple[str, Config]] = {
    **{f"plain, {name}": ("Plain", config) for name, config in SAMPLERS.items()},
    **{f"MeBNS, {name}": ("MeBNS", config) for name, config in SAMPLERS.items() if config},
    **{name: ("MeBNS", config) for name, config in FACTORS.items()},
}


def work(graph: str, variant: str, seed: int, epochs: int, root: str | None) -> Config:
    """Trains one and returns its row."""
    kind, config = VARIANTS[variant]
    return {"variant": variant, **run(graph, "dns", kind, seed, root, epochs, config)}


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--root", default=None, help="folder with the graphs' files")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="print the table only")
    args = parser.parse_args()
    done = {(row["graph"], row["variant"], int(row["seed"]), int(row["epochs"])) for row in read(RESULTS)}
    wanted = list(product(args.graphs, args.variants, args.seeds, [args.epochs]))
    missing = [] if args.report else [cell for cell in wanted if cell not in done]
    with ProcessPoolExecutor(args.jobs) as pool:
        for future in as_completed([pool.submit(work, *cell, args.root) for cell in missing]):
            append(RESULTS, [future.result()], ("variant", *FIELDS))
    rows = [row for row in read(RESULTS) if int(row["epochs"]) == args.epochs and int(row["seed"]) in args.seeds]
    report(rows, args.graphs, args.variants)


def report(rows: list[dict[str, str]], graphs: list[str], variants: list[str]) -> None:
    """Prints a Markdown table: validation only, so that what is chosen by it has not seen the test edges."""
    print("| variant | " + " | ".join(f"{graph}: val MRR, churn@1" for graph in graphs) + " | seeds |")
    print("|---|" + "---|" * (len(graphs) + 1))
    for variant in variants:
        cells, seeds = [], []
        for graph in graphs:
            own = [row for row in rows if (row["graph"], row["variant"]) == (graph, variant)]
            seeds.append(str(len(own)))
            values = [f"{mean(float(row[name]) for row in own):.4f}" for name in ("val_mrr", "churn@1")] if own else []
            cells.append(", ".join(values) or "not run")
        print(f"| {' | '.join([variant, *cells, ', '.join(seeds)])} |")


if __name__ == "__main__":
    main()
