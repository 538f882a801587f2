"""Settings of a process of `oo-ml` that come before its imports."""

import atexit
import gc
import os


def prepare_process() -> None:
    """Let garbage be collected rarely, and linear algebra use one thread.

    Imports leave half a million objects that stay, and commands and calls leave few reference cycles. With Python's own
    thresholds, walking these objects takes a quarter of the time of a short command.

    OpenBLAS would start a thread for each processor, and they spin for a while, but the matrices are too small to share
    the work. With one thread, no result can depend on the number of processors.
    """
    gc.set_threshold(50_000, 20, 50)
    # The interpreter, which collects when it ends, passes over frozen objects.
    atexit.register(gc.freeze)
    # numpy reads it when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
