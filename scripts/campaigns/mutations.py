"""Changes good files at random and reads them: each is a graph, or an error of one line that names the file.

    python scripts/campaigns/mutations.py                         # 1,000 of each kind
    python scripts/campaigns/mutations.py --count 50 --kinds csv yaml

A good file of each kind (CSV, Parquet, GraphML, ``.npz``, ``.pt``, YAML) is cut off, or some of its bytes, its texts
and its numbers are changed; those of archives also within their members, which are packed anew. Everything is drawn by
hypothesis from the seed, so that a run can be repeated. Files are read in processes with 8 GiB of memory. Wrong is a
traceback, an error without the file's name or of several lines, an answer after more than ten seconds, a process that
dies, and a graph that is none: with a node out of range, or a number that is not finite. Printed are, for each kind,
how many were tried, right (and of these read and refused), and wrong, with the first wrong ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import re
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mebns_pl.cli.preflight import check_config_file
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

KINDS = {"csv": "g.csv", "parquet": "g.parquet", "graphml": "g.graphml", "npz": "g.npz", "pt": "g.pt", "yaml": "g.yaml"}
MEMORY = 8 * 2**30
SECONDS = 10.0
HEALTH = list(HealthCheck)
RING = np.array([(i, (i + step) % 20) for i in range(20) for step in (1, 2)])
TEXTS = (
    *(
        b"",
        b"0",
        b"-1",
        b"1.0",
        b"1e400",
        b"nan",
        b"inf",
        b"9" * 30,
        b"9" * 5000,
        b"2147483648",
        b"9223372036854775808",
    ),
    *(b"\x00", b"\xff", b'"', b"'", b"\n", b"\t", b",", b"<", b">", b"&amp;", b"&x;", b"<!DOCTYPE a>", b"</graph>"),
    *(
        b"[[[[[[[[",
        b"{",
        b"*a",
        b"&a ",
        b"!!python/object:os.system",
        b"\x1b[31m",
        b"$x$",
        b"[/b1]",
        b"=1+1",
        b"\xe2\x80\xae",
    ),
)
YAML = """seed_everything: 3
trainer: {max_epochs: 4, accelerator: cpu}
model:
  class_path: mebns_pl.Plain
  init_args: &args
    sampler: {num_candidates: 4, selector: {class_path: mebns_pl.TopSelector}}
data:
  graph: air_routes
  split: {val: 0.1, test: 0.1}
again: *args
"""


def write_good(kind: str, folder: Path) -> Path:
    """A file that can be read."""
    path = folder / KINDS[kind]
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    both = np.concatenate([RING, RING[:, ::-1]]).T.copy()
    if kind == "csv":
        pd.DataFrame(RING, columns=["source", "target"]).assign(weight=1.5).to_csv(path, index=False)
    elif kind == "parquet":
        pd.DataFrame(RING, columns=["source", "target"]).assign(name="a").to_parquet(path)
    elif kind == "graphml":
        keys = '<key id="d0" for="node" attr.name="age" attr.type="double"><default>7</default></key>'
        nodes = "".join(f'<node id="n{i}"><data key="d0">{i}.5</data></node>' for i in range(20))
        edges = "".join(f'<edge source="n{u}" target="n{v}"/>' for u, v in RING)
        path.write_text(
            f'<?xml version="1.0"?>\n<graphml>{keys}<graph edgedefault="undirected">{nodes}\n{edges}</graph></graphml>'
        )
    elif kind == "npz":
        np.savez_compressed(path, edge_index=both, x=x, num_nodes=20, node_names=[f"n{i}" for i in range(20)])
    elif kind == "pt":
        sparse = torch.from_numpy(x).to_sparse_coo()
        torch.save({"edge_index": torch.from_numpy(both), "x": sparse, "num_nodes": 20}, path)
    else:
        path.write_text(YAML)
    return path


def changed(draw: Any, content: bytes) -> bytes:
    """Cut off; or with bytes, bits, texts or whole numbers changed, left out, doubled or put in."""
    if draw(st.integers(0, 9)) == 0:
        return content[: draw(st.integers(0, len(content)))]
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        place, length = draw(st.integers(0, max(0, len(found) - 1))), draw(st.integers(0, 9))
        how = draw(st.sampled_from(["bytes", "bit", "text", "number", "double", "out"]))
        if how == "bit" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "number":
            value = draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
            found[place : place + 8] = value.to_bytes(8, "little")
        elif how == "text":
            found[place : place + length] = draw(st.sampled_from(TEXTS))
        elif how == "double":
            found[place:place] = found[place : place + 8 * length]
        else:
            found[place : place + length] = draw(st.binary(max_size=9)) if how == "bytes" else b""
    return bytes(found)


def mutated(draw: Any, kind: str, content: bytes) -> bytes:
    """The file changed; of an archive as often one of its members."""
    if kind not in ("npz", "pt") or draw(st.booleans()):
        return changed(draw, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {item.filename: archive.read(item) for item in archive.infolist()}
    name = draw(st.sampled_from(sorted(members)))
    members[name] = changed(draw, members[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED if kind == "pt" else zipfile.ZIP_DEFLATED) as archive:
        for member, part in members.items():
            archive.writestr(member, part)
    return packed.getvalue()


def mutations(kind: str, content: bytes, count: int, number: int) -> Iterator[bytes]:
    """So many different changes of a file's content."""
    found: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        found.append(mutated(data.draw, kind, content))

    collect()
    return iter(found[:count])


def fault_of_graph(graph: LoadedGraph) -> str:
    """What is wrong with a graph that was read, or ""."""
    values = graph.x.matrix.values() if isinstance(graph.x, Features) else graph.x
    good = (
        graph.num_edges >= 1
        and bool((graph.edges[0] < graph.edges[1]).all())
        and int(graph.edges.min()) >= 0
        and int(graph.edges.max()) < graph.num_nodes == len(set(graph.node_names))
        and (values is None or bool(values.isfinite().all()))
    )
    return "" if good else "a graph that is none"


def judge(kind: str, path: Path) -> tuple[str, str]:
    """``read``, ``refused`` or ``wrong``, and what was said."""
    start = time.perf_counter()
    try:
        with contextlib.redirect_stderr(io.StringIO()) as noise:
            told = check_config_file(path) if kind == "yaml" else fault_of_graph(read_graph(path))
        outcome, said = ("wrong", told) if told else ("read", "")
    except DataError as error:
        said, noise = str(error), io.StringIO()
        good = path.name in said and "\n" not in said and len(said) < 3000 and "weights_only" not in said
        outcome = "refused" if good else "wrong"
    except BaseException as error:
        outcome, said, noise = "wrong", f"{type(error).__name__}: {error}", io.StringIO()
    took = time.perf_counter() - start
    if took > SECONDS:
        return "wrong", f"an answer after {took:.0f} s: {said}"
    return ("wrong", f"noise: {noise.getvalue()}") if noise.getvalue() else (outcome, said)


def serve(pipe: Any) -> None:
    """Judges files until told to end, with little memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    while (asked := pipe.recv()) is not None:
        pipe.send(judge(*asked))


class Judge:
    """A process that reads files; another takes its place where one dies of it or hangs."""

    def __init__(self) -> None:
        self.process: Any = None

    def __call__(self, kind: str, path: Path) -> tuple[str, str]:
        if self.process is None:
            context = multiprocessing.get_context("fork")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send((kind, path))
        try:
            if self.pipe.poll(2 * SECONDS):
                return self.pipe.recv()
            said = f"no answer in {2 * SECONDS:.0f} s"
        except EOFError:
            said = "the process died"
        self.end()
        return "wrong", said

    def end(self) -> None:
        """Ends the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.process = None


def campaign(kind: str, count: int, number: int, kept: Path | None, say: Callable[[str], None]) -> int:
    """Tries one kind; returns how many were wrong."""
    judged, outcomes, wrong = Judge(), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = write_good(kind, Path(folder))
        content = path.read_bytes()
        outcome, said = judged(kind, path)
        if outcome != "read":
            raise RuntimeError(f"the good {kind} file is {outcome}: {said}")
        for place, mutation in enumerate(mutations(kind, content, count, number)):
            path.write_bytes(mutation)
            outcome, said = judged(kind, path)
            outcomes[outcome] += 1
            if outcome == "wrong":
                wrong.append(f"  {kind} {place}: {re.sub(r'[^ -~]', '?', said)[:300]}")
                if kept is not None:
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / f"{place}_{path.name}").write_bytes(mutation)
        judged.end()
    right = outcomes["read"] + outcomes["refused"]
    say(
        f"{kind}: {outcomes.total()} tried, {right} right ({outcomes['read']} read, {outcomes['refused']} refused), "
        f"{outcomes['wrong']} wrong"
    )
    for line in wrong[:10]:
        say(line)
    return outcomes["wrong"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--keep", type=Path, help="folder for the files that were wrong")
    given_ = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, flush=True)

    wrong = sum(campaign(kind, given_.count, given_.seed, given_.keep, say) for kind in given_.kinds)
    say(f"{wrong} wrong")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
