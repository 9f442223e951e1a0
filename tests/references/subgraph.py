"""Enclosing subgraphs the slow obvious way: networkx, one pair at a time."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

_WORD = 2**64


@dataclass
class Enclosing:
    """One pair's subgraph in the whole graph's numbers."""

    nodes: set[int]
    edges: set[tuple[int, int]]
    labels: dict[int, int]


def enclosing(graph: nx.Graph, source: int, target: int, num_hops: int, limit: int | None = None) -> Enclosing:
    """The subgraph of one pair, its edges in both directions."""
    ends = {source, target}
    kept, frontier, ever = set(ends), set(ends), set(ends)
    for _ in range(num_hops):
        frontier = {neighbor for node in frontier for neighbor in graph[node]} - ever
        ever |= frontier
        if limit is not None:
            frontier = set(sorted(frontier, key=lambda node: pair_node_hash(source, target, node))[:limit])
        kept |= frontier
    subgraph = nx.Graph(graph.subgraph(kept))
    if source != target and subgraph.has_edge(source, target):
        subgraph.remove_edge(source, target)
    edges = {(a, b) for a, b in subgraph.edges} | {(b, a) for a, b in subgraph.edges}
    return Enclosing(kept, edges, labels(subgraph, source, target))


def labels(subgraph: nx.Graph, source: int, target: int) -> dict[int, int]:
    """Double-radius labels by the text of the paper's section 3.1."""
    from_source = distances(subgraph, source, without=target)
    from_target = distances(subgraph, target, without=source)
    found = {}
    for node in subgraph:
        if node in (source, target):
            found[node] = 1
        elif node not in from_source or node not in from_target:
            found[node] = 0
        else:
            a, b = from_source[node], from_target[node]
            half, rest = divmod(a + b, 2)
            found[node] = 1 + min(a, b) + half * (half + rest - 1)
    return found


def distances(subgraph: nx.Graph, root: int, without: int) -> dict[int, int]:
    """Distances from the root where a node does not exist, unless it is the root itself."""
    rest = nx.Graph(subgraph)
    if without != root:
        rest.remove_node(without)
    return dict(nx.single_source_shortest_path_length(rest, root))


def pair_node_hash(source: int, target: int, node: int) -> int:
    """The order in which a hop's limit prefers nodes."""
    low, high = min(source, target), max(source, target)
    return splitmix(splitmix(splitmix(low) ^ high) ^ node)


def splitmix(value: int) -> int:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) % _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % _WORD
    return value ^ (value >> 31)
