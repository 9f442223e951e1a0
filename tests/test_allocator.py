"""Freed memory stays in the process: page faults of a loop that takes and frees tensors, counted by the kernel."""

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource, sys, torch
from mebns_pl.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    kept = [torch.ones(700_000) for _ in range(5)]  # 2.8 MB each
    return sum(float((a + 1).sum()) for a in kept)

for _ in range(10):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", LOOP, mode], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_kept() -> None:
    pages = 20 * 5 * 2_800_000 // 4096
    assert faults("default") > pages / 2
    assert faults("keep") < pages / 100
