"""A child that never outlives its parent, whatever it is doing."""

import ctypes
import multiprocessing as mp
import os
import signal
import sys
import threading
import time

WATCH_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """See to it that this process, started with multiprocessing, ends when its parent does.

    On Linux the kernel kills it, even in the middle of a long call into a library. Elsewhere a thread looks after the
    parent, and has to wait for such a call to let other threads run.

    Notes
    -----
    To Linux the parent is the thread that started the process, so that thread must live as long as the process shall.
    """
    parent = mp.parent_process()
    if parent is None:
        raise RuntimeError("no parent: this process was not started with multiprocessing")
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_watch, args=(parent,), name="watch", daemon=True).start()


def _watch(parent: mp.process.BaseProcess) -> None:
    if os.name == "posix":
        while os.getppid() == parent.pid:  # a parent that died before the first look is seen too
            time.sleep(WATCH_SECONDS)
    else:
        parent.join()
    os._exit(0)
