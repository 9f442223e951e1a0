"""What it costs a run to be looked at: seconds of monitor, record, figures and projector over those of the rest.

Trains configs/experiment/cora_gcn_dns.yaml and cora_gcn_mebns.yaml (or others) as they are, with TensorBoard's logger
into a temporary folder. All in processor seconds of this process, which other programs do not change: what is done
before the first epoch and after the last one stands beside the epochs.

    python benchmarks/inspection.py [--experiments cora_gcn_dns cora_gcn_mebns] [--epochs 100]
"""

from __future__ import annotations

import tempfile
import time
from functools import wraps
from itertools import product
from typing import Any

from _runs import begin, head, line, parser_of

INSPECTED = ("MigrationMonitor", "ProbeRecord", "MigrationFigures", "Projector")
HOOKS = ("on_fit_start", "on_train_batch_end", "on_train_epoch_end", "on_fit_end")


def main() -> None:
    """Prints a row for each experiment."""
    parser = parser_of(__doc__)
    parser.add_argument("--experiments", nargs="+", default=["cora_gcn_dns", "cora_gcn_mebns"])
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    begin()
    head(
        "experiment", "epochs", "an epoch, s", *(f"{name}, %" for name in INSPECTED), "all, %", "before, s", "after, s"
    )
    for experiment in args.experiments:
        measure(experiment, args.epochs, args.root)


def measure(experiment: str, epochs: int, root: str | None) -> None:
    """Trains, and prints what it took."""
    from lightning.pytorch import Callback

    from mebns_pl.cli.main import MeBNSCLI, main

    spent = dict.fromkeys(product(INSPECTED, HOOKS), 0.0)
    whole = 0.0

    def timed(name: str, hook: str, call: Any) -> Any:
        @wraps(call)
        def run(*given: Any) -> None:
            start = time.process_time()
            call(*given)
            spent[name, hook] += time.process_time() - start

        return run

    class Epochs(Callback):
        """Adds up the epochs, first and last of the callbacks."""

        def on_train_epoch_start(self, *_: Any) -> None:
            self.start = time.process_time()

    class Ends(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            nonlocal whole
            whole += time.process_time() - epochs_of.start

    epochs_of = Epochs()

    class Watched(MeBNSCLI):
        """Times the hooks of what looks at the run."""

        def fit(self, **options: Any) -> None:
            callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            for callback in callbacks:
                if (name := type(callback).__name__) in INSPECTED:
                    for hook in HOOKS:
                        setattr(callback, hook, timed(name, hook, getattr(callback, hook)))
            callbacks[:] = [epochs_of, *callbacks, Ends()]
            super().fit(**options)

    with tempfile.TemporaryDirectory() as folder:
        options = [f"--trainer.max_epochs={epochs}", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
        options += [f"--trainer.logger.save_dir={folder}"] + ([f"--data.root={root}"] if root else [])
        main(["fit", "-c", f"experiment/{experiment}", *options], Watched)
    in_epochs = {name: sum(spent[name, hook] for hook in HOOKS if "train" in hook) for name in INSPECTED}
    rest = whole - sum(in_epochs.values())
    shares = [100 * seconds / rest for seconds in (*in_epochs.values(), sum(in_epochs.values()))]
    before, after = (sum(spent[name, hook] for name in INSPECTED) for hook in (HOOKS[0], HOOKS[-1]))
    told = (f"{rest / epochs:.3f}", *(f"{share:.1f}" for share in shares), f"{before:.2f}", f"{after:.2f}")
    line(experiment, epochs, *told)


if __name__ == "__main__":
    main()
