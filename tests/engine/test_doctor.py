"""The doctor's word on PyTorch and the GPU, for machines that this one is not."""

import re

import pytest
import torch

from engine import doctor

H100 = ("NVIDIA H100", "12.4", (9, 0))


@pytest.mark.parametrize(
    ("driver", "build", "usable", "built", "state", "says"),
    [
        (None, None, False, [], "ok", "no NVIDIA GPU here"),
        (H100, None, False, [], "warning", "install the CUDA build"),
        (H100, "13.0", False, [], "problem", "supports up to CUDA 12.4.*update the driver"),
        (H100, "12.4", True, ["sm_80", "sm_90"], "ok", "NVIDIA H100, 60.0 GB of 80.0 GB free"),
        (("Tesla K80", "12.4", (3, 7)), "12.4", True, ["sm_80", "sm_90"], "problem", "capability 3.7"),
        (("NVIDIA L4", "12.4", (8, 9)), "12.4", True, ["sm_80", "sm_90"], "ok", "NVIDIA L4"),
    ],
)
def test_the_build_of_torch_is_held_against_the_gpu_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
    driver: tuple | None,
    build: str | None,
    usable: bool,
    built: list[str],
    state: str,
    says: str,
) -> None:
    monkeypatch.setattr(doctor, "_driver", lambda: driver)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(60e9), int(80e9)))
    check = doctor.pytorch()
    assert check.state == state, check
    assert re.search(says, check.text)


def test_a_check_that_fails_is_a_finding_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(doctor.psutil, "virtual_memory", broken)
    found = {check.name: check for check in map(doctor._guarded, (doctor.memory, doctor.python))}
    assert found["memory"].state == "problem"
    assert "no such device" in found["memory"].text
    assert found["Python"].state == "ok"


def test_a_qt_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPEN_A_WINDOW", "import sys; sys.exit('libEGL.so.1: cannot open shared object file')")
    check = doctor.qt()
    assert check.state == "problem"
    assert "libEGL.so.1" in check.text
