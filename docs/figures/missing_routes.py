"""Draws missing_routes.png, the picture of the landing page: what its example finds, on a map.

python docs/figures/missing_routes.py      # about a minute
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from mebns_pl import find_links

MAINLAND = {"longitude": (-126, -66), "latitude": (24, 50)}


def main() -> None:
    """Finds the links, and draws them among the known ones."""
    with tempfile.TemporaryDirectory() as folder:
        links = find_links("air_routes", top_k=30, max_per_node=2, out=folder)
    package = files("mebns_pl") / "datasets"
    routes = pd.read_csv(package / "air_routes.csv.gz")
    airports = pd.read_csv(package / "air_routes_airports.csv.gz").set_index("name")
    place = airports[["longitude", "latitude"]]
    degree = pd.concat([routes["source"], routes["target"]]).value_counts().reindex(place.index, fill_value=0)

    figure, axes = plt.subplots(figsize=(9, 4.9), layout="constrained")
    for table, style in ((routes.sample(700, random_state=0), KNOWN), (links, FOUND)):
        for ends in zip(table["source"], table["target"], strict=True):
            axes.plot(*place.loc[list(ends)].to_numpy().T, **style)
    axes.scatter(*place.to_numpy().T, s=2 + degree / 3, color="0.45", linewidth=0, zorder=2)
    labels: dict[str, list[str]] = {}  # airports within a degree or so share one
    for name in dict.fromkeys([*links["source"], *links["target"]]):
        if all(low < place.loc[name, axis] < high for axis, (low, high) in MAINLAND.items()):
            near = [first for first in labels if (place.loc[name] - place.loc[first]).abs().max() < 1.2]
            labels.setdefault(near[0] if near else name, []).append(name[:3])
    for name, codes in labels.items():
        axes.annotate(" ".join(codes), place.loc[name], fontsize=7, xytext=(4, 4), textcoords="offset points", zorder=4)
    axes.set(xlim=MAINLAND["longitude"], ylim=MAINLAND["latitude"], aspect=1.25)
    axes.set_axis_off()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, pil_kwargs={"optimize": True})


KNOWN = {"color": "0.85", "linewidth": 0.5, "zorder": 1}
FOUND = {"color": "#D55E00", "linewidth": 1.3, "alpha": 0.85, "zorder": 3}

if __name__ == "__main__":
    main()
