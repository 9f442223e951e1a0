"""torchrun's agent, without its page of traceback: which rank a signal has ended is told in one line."""

from __future__ import annotations

import logging
import os
import socket
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == "__main__":
    os.environ["MEBNS_LAUNCHER"] = str(os.getpid())  # by which the ranks know whether it is still there
    logging.disable(logging.ERROR)
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # otherwise it has told why
            host, signal = socket.gethostname(), failure.signal_name()
            sys.stderr.write(f"mebns: error: rank {rank} on {host}, process {failure.pid}, was ended by {signal}\n")
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)
