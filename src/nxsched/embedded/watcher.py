"""Stop the server of a folder when nobody uses it any more. Run as a program of its own, with nothing but Python.

Arguments: the folder, the number of the open descriptor that holds the lock on its file `watcher`, pg_ctl, and the user
who runs the server (empty: the same user).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_COMING_UP = 2
"""Seconds."""


def main(folder: Path, watcher: int, control: str, user: str) -> None:
    """Wait for the last user, and stop the server. Whoever started this program need not wait: it goes on as a fork."""
    if os.fork():
        return
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # meant for the processes that use the server
        signal.signal(number, signal.SIG_IGN)
    users = os.open(folder / "users", os.O_RDWR)
    starting = os.open(folder / "starting", os.O_RDWR)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        # Who comes takes the lock on `starting` first and then its share; so do we, and look again.
        fcntl.flock(starting, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(starting, fcntl.LOCK_UN)
            continue
        if stop(folder, control, user):
            # Nothing ran yet. If the last user died while starting a server, that may still come up.
            time.sleep(_COMING_UP)
            stop(folder, control, user)
        # Whoever waits for `starting` must find nobody watching: this lock goes before that one.
        os.close(watcher)
        return


def stop(folder: Path, control: str, user: str) -> int:
    """Stop the server, and wait for it; gives 0 where there was one."""
    command = [control, "-D", str(folder / "pgdata"), "-m", "fast", "-w", "stop"]
    return subprocess.run(command, check=False, user=user or None, stdin=subprocess.DEVNULL).returncode  # noqa: S603 - pg_ctl of the package


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
