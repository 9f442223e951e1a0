"""``mebns report``: what a study, or runs, have shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mebns_pl.cli.messages import OneLineParser
from mebns_pl.errors import DataError


def show_report(arguments: Sequence[str]) -> None:
    """``mebns report``: writes the report, and tells the verdict."""
    # Plotly and SciPy's statistics take a second to load, which other commands need not wait for
    from mebns_pl.report.build import FORMATS, build_report, write_report
    from mebns_pl.report.folders import find_runs, frame_of_runs
    from mebns_pl.study.store import FILE, read_results

    parser = OneLineParser(
        prog="mebns report",
        description="What a study has shown: a verdict in words, tables and figures, with honest statistics.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="+", type=Path, help="a study's folder, or folders of runs")
    parser.add_argument("--out", type=Path, help="folder for the report (default: report in the first folder)")
    parser.add_argument("--metric", default="test/mrr", help="what is compared")
    parser.add_argument(
        "--reference",
        action="append",
        help="AXIS=VALUE that other values of the axis are compared with; more than once",
    )
    parser.add_argument("--format", default=",".join(FORMATS), help="which of md, tex and html, by commas")
    given = parser.parse_args(arguments)
    folders = [Path(folder) for folder in given.folder]
    studies = [folder for folder in folders if (folder / FILE).is_file()]
    if studies and len(folders) > 1:
        raise DataError(
            f"folder: got {len(folders)}, {studies[0]} a study among them; a report is of one study, or of runs"
        )
    frame = read_results(folders[0]) if studies else frame_of_runs(find_runs(folders))
    report = build_report(frame, folders[0], given.metric, given.reference or ())
    files = write_report(report, given.out or folders[0] / "report", given.format.split(","))
    console = Console(highlight=False, markup=False)
    for verdict in report.verdicts:
        console.print(verdict.summary, style="bold")
        if len(verdict.lines) == 1:
            console.print(verdict.lines[0].detail)
        for line in verdict.lines if len(verdict.lines) > 1 else ():
            console.print(f"- {line.lead}")
    for remark in report.remarks:
        console.print(remark)
    console.print(f"\nReport: {' '.join(map(str, files))}", soft_wrap=True)
