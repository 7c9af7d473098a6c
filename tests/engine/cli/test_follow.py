"""Ctrl-C at any moment, also in the middle of a line that is being written."""

import io
import signal
import time

import pytest

from engine.cli.follow import interruptible


class Interrupting(io.RawIOBase):
    """A stream that is interrupted in the middle of its first write."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self.content:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)
        self.content += bytes(data)
        return len(data)


def test_a_signal_in_the_middle_of_a_line_cancels_and_says_so() -> None:
    raw = Interrupting()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    with interruptible(lambda: print("stopping", file=stream, flush=True)) as cancelled:
        print("1/4 units", file=stream, flush=True)
        assert cancelled.is_set()
        deadline = time.monotonic() + 5
        while b"stopping" not in raw.content and time.monotonic() < deadline:
            time.sleep(0.01)
        assert raw.content == b"1/4 units\nstopping\n"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_request_to_terminate_stops_at_once() -> None:
    said: list[bool] = []
    with interruptible(lambda: said.append(True)) as cancelled:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert not cancelled.is_set()
    assert not said
