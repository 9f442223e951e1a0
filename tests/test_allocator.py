"""Freed memory stays in the process: page faults of a loop that takes and frees tensors, counted by the kernel."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from mebns_pl.allocator import give_back_freed_memory, keep_freed_memory
from references.processes import output_of


def loop() -> None:
    """In a process of its own, whose allocator it sets."""
    torch.set_num_threads(1)
    assert keep_freed_memory()

    def work() -> float:
        kept = [torch.ones(700_000) for _ in range(5)]  # 2.8 MB each
        return sum(float((a + 1).sum()) for a in kept)

    for _ in range(10):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(60):
        work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_kept(tmp_path: Path) -> None:
    faults = int(output_of(loop, into=tmp_path / "faults.txt"))
    pages = 60 * 5 * 2_800_000 // 4096  # each is new without the setting
    assert faults < pages / 100


def freed() -> None:
    """Tells how many bytes of many small blocks, one of them kept at their end, are there before and after."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    keep_freed_memory()
    blocks = [torch.ones(100_000) for _ in range(500)]  # 0.4 MB each
    last = blocks.pop()
    del blocks
    before = resident()
    assert give_back_freed_memory()
    print(before - resident(), len(last), flush=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the function is glibc's")
def test_freed_memory_is_given_back(tmp_path: Path) -> None:
    given_back, _ = map(int, output_of(freed, into=tmp_path / "freed.txt").split())
    assert given_back > 499 * 400_000 / 2
