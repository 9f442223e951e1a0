"""Makes the embedded air-routes graph from the public-domain tables of US airports and routes.

Usage: ``python scripts/make_air_routes.py SRC_DIR [OUT_DIR]``

``SRC_DIR`` holds ``airports.csv`` (OurAirports) and ``routes.csv.gz`` (U.S. Bureau of Transportation Statistics, one
carrier and directed route a line). ``OUT_DIR`` is the package's folder of data sets by default. The same input gives
the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections.abc import Iterable
from pathlib import Path

NUM_AIRPORTS = 352
NUM_ROUTES = 3017
PACKAGE_DATA = Path(__file__).resolve().parents[1] / "mebns_pl" / "datasets"


def write_csv(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    """Writes a gzipped CSV without a time stamp or file name in it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as file:
        file.write(text.getvalue().encode("utf-8"))


def make_air_routes(source: Path, out: Path) -> None:
    """Reads the two tables in ``source`` and writes the edge list and the node table to ``out``.

    Raises:
        ValueError: the tables do not give 352 connected airports and 3,017 undirected routes.
    """
    with (source / "airports.csv").open(encoding="utf-8", newline="") as file:
        airports = {row["AirportID"]: row for row in csv.DictReader(file)}
    routes = set()
    with gzip.open(source / "routes.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["SourceID"] != row["DestinationID"]:
                routes.add(frozenset((row["SourceID"], row["DestinationID"])))
    names = {key: f"{row['IATA']} - {row['Name']}" for key, row in airports.items()}
    connected = sorted({end for route in routes for end in route}, key=names.__getitem__)
    if (len(connected), len(routes)) != (NUM_AIRPORTS, NUM_ROUTES):
        raise ValueError(
            f"{source}: {len(connected)} connected airports and {len(routes)} routes; "
            f"expected {NUM_AIRPORTS} and {NUM_ROUTES}"
        )
    columns = ("Latitude", "Longitude", "Altitude", "Type")
    nodes = [[names[key], *(airports[key][column] for column in columns)] for key in connected]
    edges = sorted(sorted(names[end] for end in route) for route in routes)
    write_csv(out / "air_routes_airports.csv.gz", ["name", "latitude", "longitude", "altitude", "size"], nodes)
    write_csv(out / "air_routes.csv.gz", ["source", "target"], edges)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Makes the embedded air-routes graph.")
    parser.add_argument("source", type=Path, help="folder with airports.csv and routes.csv.gz")
    parser.add_argument("out", type=Path, nargs="?", default=PACKAGE_DATA, help="folder to write to")
    arguments = parser.parse_args()
    make_air_routes(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
