"""What a process may use: the limits of a container count, whichever version of cgroups tells them."""

import os

import pytest
import torch

from attngan.config.settings import Config
from attngan.runtime import acceleration, machine


@pytest.fixture
def limits(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu_dot_max": "max 100000\n"}, 64),
        ({"cpu_dot_max": "800000 100000\n"}, 8),
        ({"cpu_dot_max": "50000 100000\n"}, 1),  # half a core
        ({"cpu_dot_max": "9900000 100000\n"}, 64),
        ({"cpu__cpu_dot_cfs_quota_us": "400000\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, 4),
        ({"cpu__cpu_dot_cfs_quota_us": "-1\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, 64),
    ],
)
def test_cores_are_those_of_the_containers_quota(limits, files, cores):
    limits(**files)
    assert machine.num_cores() == cores


def test_memory_is_the_containers_limit_or_the_machines(limits):
    installed = machine.memory_bytes()
    assert installed == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits(memory_dot_max="max\n")
    assert machine.memory_bytes() == installed
    limits(memory__memory_dot_limit_in_bytes="1048576\n")
    assert machine.memory_bytes() == 2**20
    limits(memory_dot_max="2097152\n")
    assert machine.memory_bytes() == 2**21


def test_torch_starts_no_more_threads_than_the_container_has_cores(limits):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        limits(cpu_dot_max="100000 100000\n")
        acceleration.set_up_device(Config(device="cpu"))
        assert torch.get_num_threads() == 1
        acceleration.set_up_device(Config(device="cpu", num_threads=2))  # as it is set
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
