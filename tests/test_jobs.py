"""Many items at a time: in order, a few at once, with one thread each, and the same on every kind of cluster."""

import os
import sys
import threading
import time

import pytest

import fitter.jobs
from fitter.config import FitConfig
from fitter.jobs import AHEAD, ENVIRONMENT, cores, parallel
from fitter.run import shared_out

CLUSTERS = [
    None,
    *(pytest.param(f"{kind}://local", marks=pytest.mark.slow) for kind in ("dask", "ray")),
]


def needs(cluster: str | None) -> None:
    package = {"dask": "distributed", "ray": "ray"}.get((cluster or "").partition(":")[0])
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed")


def square_slowly(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)  # the first is the last to be done
    return number * number


def surroundings(_) -> dict:
    import torch

    return {name: os.environ.get(name) for name in ENVIRONMENT} | {"threads": torch.get_num_threads()}


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("number 3: expected another")
    return number


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_results_come_in_order_from_other_processes_with_one_thread(cluster):
    needs(cluster)
    with parallel(2, cluster) as each:
        assert list(each(square_slowly, range(20))) == [n * n for n in range(20)]
        assert os.getpid() not in set(each(_process, range(4)))
        assert list(each(surroundings, [0])) == [ENVIRONMENT | {"threads": 1}]
        results = each(fail_at_three, range(10))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="number 3: expected another"):
            next(results)


def _process(_) -> int:
    return os.getpid()


def test_who_stops_a_run_sees_no_traceback_of_its_workers(monkeypatch):
    """loky's manager thread trips over items that were given up before a worker had them."""
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)

    def items():
        yield from range(5)
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), parallel(2) as each:
            list(each(square_slowly, items()))
    assert not said


def test_no_more_is_asked_for_than_a_few_items_per_worker_however_slowly_results_are_taken():
    asked = 0

    def items():
        nonlocal asked
        for number in range(200):
            asked += 1
            yield number

    with parallel(2) as each:
        for taken, _ in enumerate(each(square_slowly, items())):
            time.sleep(0.02 if taken < 10 else 0)
            assert asked <= taken + AHEAD * 2
        assert asked == 200


def test_work_that_nobody_takes_is_called_off(tmp_path):
    with parallel(2) as each:
        results = each(_mark, ((tmp_path, number) for number in range(100)))
        next(results)
        results.close()
    assert len(list(tmp_path.iterdir())) <= AHEAD * 2


def _mark(given) -> None:
    folder, number = given
    (folder / str(number)).touch()


def test_one_job_is_this_process():
    with parallel(1) as each:
        results = each(_process, iter(range(3)))
        assert list(results) == [os.getpid()] * 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_are_those_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("name", ["slurm://local", "dask", "dask://", "ray:local", ""])
def test_another_cluster_is_refused_by_name(name):
    with pytest.raises(ValueError, match="expected dask://local, dask://host:port, ray://local or"):
        with parallel(2, name):
            pass


@pytest.mark.parametrize(("cluster", "package", "remedy"), [
    ("dask://local", "dask", r"pip install 'dask\[distributed\]'"),
    ("ray://local", "ray", "pip install ray"),
])  # fmt: skip
def test_a_package_that_is_missing_is_named(cluster, package, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=remedy):
        with parallel(2, cluster):
            pass


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    needs("dask://x")
    monkeypatch.setattr(fitter.jobs, "WAIT_S", 1)
    with pytest.raises(ValueError, match="dask://127.0.0.1:9: expected a scheduler, none answers"):
        with parallel(2, "dask://127.0.0.1:9"):
            pass


@pytest.mark.slow
def test_a_cluster_that_others_started_is_used():
    needs("dask://x")
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with parallel(0, cluster.scheduler_address.replace("tcp", "dask")) as each:
            assert list(each(surroundings, [0]))[0]["OMP_WAIT_POLICY"] == "PASSIVE"
            assert list(each(square_slowly, range(5))) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize(
    ("photos", "jobs", "size"), [(1, 2, 1), (8, 2, 4), (24, 2, 6), (56, 2, 7), (1000, 2, 8), (24, 1, 8)]
)
def test_all_processes_get_as_many_batches(photos, jobs, size):
    """Three batches of eight would keep one of two processes waiting for a third of the time."""
    found = shared_out(FitConfig(images="", jobs=jobs, device="cpu"), photos)
    assert found == (size, min(jobs, photos))
    if photos < 1000:
        assert -(-photos // size) % found[1] == 0
