"""What docs/samplers.md shows runs as it stands there, and tells of everything there is; so does `mebns samplers`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from mebns_pl import CandidateScores, UMDCollector
from mebns_pl.cli import main as cli
from mebns_pl.families import rules_in_source
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.listing import PARTS, recipe_rule
from mebns_pl.negatives.proposals.abstract import PROPOSALS
from mebns_pl.negatives.selectors.abstract import SELECTORS
from mebns_pl.negatives.weightings.abstract import WEIGHTINGS
from references.negatives import GRAPHS, legal_nodes
from references.runs import ALL_WARM_UP, command_line_parser, fit

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = (REPOSITORY / "docs" / "samplers.md").read_text("utf-8")
FAMILIES = {"proposal": PROPOSALS, "selector": SELECTORS, "weighting": WEIGHTINGS}
RECIPES = sorted(path.stem for path in (REPOSITORY / "configs" / "sampler").glob("*.yaml"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's module and recipe."""
    (module,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (recipe,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "my_samplers.py").write_text(module)
    (tmp_path / "mine.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_samplers", None)


@ALL_WARM_UP
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_a_users_own_sampler_runs_from_yaml(own: Path, kind: str) -> None:
    base = REPOSITORY / "configs" / "base.yaml"
    args = ["-c", str(base), "-c", "mine.yaml", f"--model={kind}", "--trainer.logger=false"]
    parser, before = command_line_parser(), torch.get_rng_state()
    made = parser.instantiate_classes(parser.parse_args(["fit", *args])).fit
    torch.set_rng_state(before)
    assert type(made.model.sampler.selector).__name__ == "BandSelector"
    assert type(made.model.sampler.proposal).__name__ == "FarProposal"
    made.model.collector = UMDCollector(num_passes=3, batch_size=8)
    trainer = fit(made.model, made.data, 1, limit_train_batches=2, limit_val_batches=0)
    assert trainer.global_step == 2


def test_a_users_own_sampler_keeps_the_contract(own: Path) -> None:
    import my_samplers

    for edges, num_nodes in GRAPHS.values():
        graph = Graph.from_edges(torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t(), num_nodes)
        if not edges:
            continue
        proposal = my_samplers.FarProposal()
        proposal.setup(graph, KnownEdges(graph))
        drawn = proposal.propose(torch.arange(num_nodes), 9, Key(0, "tests/docs"))
        for anchor, row in enumerate(drawn.tolist()):
            assert set(row) <= set(legal_nodes(edges, num_nodes, anchor) or range(num_nodes))
    mask = torch.rand(20, 10, generator=torch.Generator().manual_seed(1)) < 0.7
    scores = torch.randn(20, 10, generator=torch.Generator().manual_seed(2))
    picks = my_samplers.BandSelector().select(mask, CandidateScores.given(scores), torch.arange(20), Key(0, "tests"))
    assert torch.equal(picks.mask, mask.gather(1, picks.columns))
    for row in range(20):
        legal = sorted(scores[row][mask[row]].tolist(), reverse=True)
        place = legal.index(float(scores[row, picks.columns[row, 0]]))
        assert 0.1 <= place / len(legal) < 0.5


def test_the_page_tells_of_every_recipe() -> None:
    for name in RECIPES:
        assert f"| `{name}` |" in PAGE or f"`{name}` is a proposal only" in PAGE, name


def test_the_page_tells_of_every_class() -> None:
    """The table is that of `mebns samplers`."""
    expected = [
        f"| `{family.option.removeprefix('--')}` | `{name}` | {rule.replace('|', chr(92) + '|')} |"
        for family in FAMILIES.values()
        for name, rule in family.rules.items()
    ]
    assert re.findall(r"^\| `model\.sampler\.\w+` \|.*$", PAGE, flags=re.MULTILINE) == expected


def test_the_page_tells_of_no_other_class() -> None:
    names = {name for family in FAMILIES.values() for name in family.classes}
    assert set(re.findall(r"`([A-Z]\w+(?:Proposal|Selector|Weighting))`", PAGE)) - {"AbstractAdaptiveProposal"} == names


def test_the_reference_tells_of_every_class() -> None:
    told = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    for family in FAMILIES.values():
        for name in family.classes:
            assert f"`{name}`" in told, name


def test_links_of_the_page_lead_somewhere() -> None:
    names = re.findall(r"\]\(((?!http)[^)#]+)\)|-c (configs/\S+\.yaml)", PAGE)
    for name in {name for pair in names for name in pair if name}:
        assert (REPOSITORY / name).exists() or (REPOSITORY / "docs" / name).exists(), name


def test_mebns_samplers_lists_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as end:
        cli.main(["samplers"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    for name in RECIPES:
        assert re.search(rf"^{name} ", told, flags=re.MULTILINE), name
    for family in FAMILIES.values():
        for name in family.classes:
            assert re.search(rf"^{family.option} +{name} +\S", told, flags=re.MULTILINE), name


def test_mebns_samplers_needs_no_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["samplers", "--recipes", "."])
    told = capsys.readouterr().out
    assert "HardestSelector" in told
    assert "recipe" not in told
    with pytest.raises(SystemExit):
        cli.main(["samplers"])
    assert "dns_mn" in capsys.readouterr().out  # found from any folder


def test_every_recipe_says_what_it_is() -> None:
    for name in RECIPES:
        rule = recipe_rule(REPOSITORY / "configs" / "sampler" / f"{name}.yaml")
        assert 20 < len(rule) < 200, f"{name}: {rule!r}"


def test_the_listing_reads_the_same_classes_from_source_as_are_imported() -> None:
    assert PARTS.keys() == FAMILIES.keys()
    for part, (package, base) in PARTS.items():
        assert rules_in_source(package, base) == FAMILIES[part].rules
        assert FAMILIES[part].option == f"--model.sampler.{part}"
