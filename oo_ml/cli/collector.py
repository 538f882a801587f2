"""Python's garbage collector in a process of `oo-ml`.

Imports leave half a million objects that stay, and commands and calls leave few reference cycles. With Python's own
thresholds, walking these objects takes a quarter of the time of a short command.
"""

import atexit
import gc


def collect_rarely() -> None:
    """Collect rarely from now on, and not at the exit."""
    gc.set_threshold(50_000, 20, 50)
    # The interpreter, which collects when it ends, passes over frozen objects.
    atexit.register(gc.freeze)
