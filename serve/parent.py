"""A worker whose supervisor was killed ends too, and does not go on holding port and memory."""

from __future__ import annotations

import os
import signal
import threading
import time

LOOK_EVERY_S = 0.5


def end_with_parent() -> None:
    """Send SIGTERM to this process when its parent is gone: what was accepted is finished first."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
