"""Help that fits on a screen; ``--help=all`` lists every option."""

from __future__ import annotations

COMMANDS = {
    "run": "from a graph to its missing links: EDGES, a file or a name of `mebns datasets`",
    "fit": "trains",
    "validate": "validates: RUN, a run's folder or a checkpoint",
    "test": "tests RUN, beside chance and heuristics",
    "predict": "ranks missing links by RUN",
    "score": "scores given pairs: PAIRS, a table with the columns source and target",
    "landscape": "looks at the loss round trained students",
    "sweep": "runs many configurations over seeds: STUDY, a file",
    "report": "says what a study, or runs, have shown: FOLDER",
    "explore": "shows what migrates in runs, on one page: RUN, a run's folder, and others",
    "check": "looks whether an encoder of one's own can be trained: CLASS, its import path",
    "datasets": "lists the graphs that are known by name",
    "samplers": "lists samplers, and what they are made of",
}
"""What there is, each in a few words."""

TOP = f"""usage: mebns COMMAND [options]

Link prediction with meta-bootstrapped negative sampling.

commands:
{"".join(f"  {name:<10} {told}{chr(10)}" for name, told in COMMANDS.items())}
`mebns COMMAND --help` tells the options most used, `--help=all` every one; --version the version.
"""

_DATA = """  -c FILE                             options of a file, or of configs/ by name: -c sampler/dns; later win
  --data.graph NAME_OR_FILE           a name of `mebns datasets`, or CSV, TSV, Parquet, GraphML, .npz, .mat, PyG's .pt
  --data.nodes FILE                   node features beside an edge list: column node, then features
  --data.root FOLDER                  where files of known graphs are
"""
_MODEL = """  --model NAME                        MeBNS, Plain, AutoEncoder or Heuristic
  --model.predictor NAME              auto, EncoderDecoder, StructureMLP, NCN, SEAL
  --model.sampler.selector NAME       how negatives are picked: see `mebns samplers`
"""
_TRAINER = """  --trainer.accelerator NAME          cpu, gpu, auto
  --trainer.devices N                 how many
"""
_TRAINED = """  --ckpt_path FILE                    a checkpoint, where RUN is not given
"""
_LINKS = """  --predictions.path FILE             where links go: .csv, .parquet
  --predictions.top_k N               how many
  --predictions.per_node true         the best of each node
  --predictions.max_per_node N        in how many links a node may stand
  --predictions.explain true          probabilities, and neighbours in common
  --data.pairs.nodes NAMES            links of these nodes alone
  --data.pairs.source_type TYPE       links from one type of nodes
  --data.pairs.target_type TYPE       to another
  --data.pairs.forbidden FILE         pairs that are left out
"""
_OPTIONS = {
    "fit": """  --data.split.val SHARE              edges held out for validation; 0 for none
  --data.split.test SHARE             edges held out for test; 0 for none
  --data.batch_size N                 edges of a step
"""
    + _MODEL
    + """  --model.optimizer.lr RATE           learning rate
  --trainer.max_epochs N              how long
"""
    + _TRAINER
    + """  --seed_everything N                 seed of every draw
  --checkpoint.monitor NAME           what the best epoch is chosen by
  --resume[=RUN]                      goes on with a run that was stopped
""",
    "validate": _TRAINED + _MODEL + _TRAINER,
    "test": _TRAINED + _MODEL + _TRAINER + "  --card.show false                   without the card\n",
    "predict": _TRAINED + _LINKS + _TRAINER,
    "score": _TRAINED
    + """  --path FILE                         where scores go: .csv, .parquet
  --nodes FILE                        new nodes with features
  --edges FILE                        their edges
""",
}
_USAGE = {"fit": "", "validate": "RUN ", "test": "RUN ", "predict": "RUN ", "score": "PAIRS "}


def short_help(command: str) -> str:
    """The options most used of a command that has very many, or ""."""
    if command not in _OPTIONS:
        return ""
    told = COMMANDS[command]
    return (
        f"usage: mebns {command} {_USAGE[command]}[options]\n\n{told[0].upper()}{told[1:]}.\n\noptions most used:\n"
        f"{_DATA}{_OPTIONS[command]}\n`mebns {command} --help=all` lists every option.\n"
    )
