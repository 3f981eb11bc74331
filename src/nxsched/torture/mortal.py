"""Processes that kill themselves between two statements, when it is said so."""

from __future__ import annotations

import os
import signal
from typing import Any

from sqlalchemy import Engine, event


def mortal(engine: Engine, left: Any) -> Engine:  # noqa: ANN401 - a number that processes share
    """Die before a statement, or before a COMMIT, when `left` has come to nothing; 0 from the beginning is never."""

    def live_on(*_: object) -> None:
        if left.value > 0:
            left.value -= 1
            if left.value == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", live_on)
    event.listen(engine, "commit", live_on)
    return engine
