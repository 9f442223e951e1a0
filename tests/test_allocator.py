"""Freed memory stays in the process: page faults of a loop that takes and frees tensors, counted by the kernel."""

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource, torch
from mebns_pl.allocator import keep_freed_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True, timeout=120)
    pages = 20 * 5 * 2_800_000 // 4096  # each is new without the setting
    assert int(done.stdout) < pages / 100
