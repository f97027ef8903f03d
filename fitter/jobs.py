"""Many photos at a time: on the cores of this machine (loky), or on a cluster (Dask, Ray), with one face.

    with parallel(jobs, cluster) as each:
        for row in each(function, photos): ...

Results come in the order of the items, and of no more items than a few per worker is anything held, however slowly they
are taken: joblib's own generator hands out work as fast as it is done and keeps all results until they are asked for.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# photos are the unit of parallel work; OpenMP threads that spin slow small tensors 5-10 x; products are rounded alike
# wherever in memory their matrices lie, or a fit would depend on its place in a batch
ENVIRONMENT = dict.fromkeys(THREADS, "1") | {"OMP_WAIT_POLICY": "PASSIVE", "MKL_CBWR": "AUTO,STRICT"}
AHEAD = 3  # items per worker that are handed out and not taken back
IDLE_S = 600  # after which a process without work ends, and what it has loaded with it
WAIT_S = 60  # for a cluster to answer
PATIENCE = timedelta(
    hours=2
)  # of the processes of a training while the first one alone stores data or validates


def wait_quietly() -> None:
    """OpenMP threads of this process, and of those that it starts, wait without spinning, and MKL rounds alike wherever
    its matrices lie; before torch is imported."""
    for name in ("OMP_WAIT_POLICY", "MKL_CBWR"):
        os.environ.setdefault(name, ENVIRONMENT[name])


def one_thread() -> None:
    """This process computes in one thread: photos are the unit of parallel work; results do not depend on `jobs`."""
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1)  # NumPy's BLAS waits for its other threads longer than it multiplies


@contextmanager
def single_thread() -> Iterator[None]:
    """`one_thread` within, what was before after it: a program that fits has threads of its own."""
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads(), cv2.getNumThreads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])


@dataclass(frozen=True)
class _Pool:
    """submit(function, item) -> a ticket; result(ticket) waits for its answer; cancel(ticket) if nobody will."""

    workers: int
    submit: Callable
    result: Callable
    cancel: Callable


def cores() -> int:
    """How many cores this process may use: by its affinity and its share (cgroup), not how many there are."""
    from joblib import cpu_count

    return cpu_count()


@contextmanager
def parallel(jobs: int = 0, cluster: str | None = None) -> Iterator[Callable[[Callable, Iterable], Iterator]]:
    """Gives `each(function, items)`, an iterator over function(item) in order, done by several processes.

    jobs: processes on this machine, 0 = `cores()`, 1 = this process itself; a cluster that runs has its own number
    cluster: None, or "dask://local", "dask://host:port", "ray://local", "ray://host:port"

    Workers have one thread each and wait without spinning (`ENVIRONMENT`). An exception of `function` is raised where
    its result would have come; what follows is not begun. ValueError: another cluster, or none that answers.
    ImportError: its package is not installed.
    """
    kind, _, where = (cluster or "").partition("://")
    jobs = jobs or cores()
    if cluster is None and jobs == 1:
        yield map
        return
    if cluster is not None and (kind not in POOLS or not where):
        raise ValueError(
            f"cluster: expected dask://local, dask://host:port, ray://local or ray://host:port, got {cluster!r}"
        )
    with POOLS[kind](jobs, where) as pool:
        yield partial(_in_order, pool)


def _in_order(pool: _Pool, function: Callable, items: Iterable) -> Iterator:
    """Results in the order of the items, of which at most AHEAD per worker are under way or waiting to be taken."""
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * pool.workers:
                yield pool.result(waiting.popleft())
        while waiting:
            yield pool.result(waiting.popleft())
    finally:
        for ticket in waiting:
            pool.cancel(ticket)


@contextmanager
def _processes(jobs: int, _: str) -> Iterator[_Pool]:
    """Processes of this machine, by joblib's loky: they survive a C library's threads, and are not forked."""
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(jobs, timeout=IDLE_S, env=ENVIRONMENT)
    done, hook = False, threading.excepthook
    try:
        # a future that is cancelled makes loky's own thread stumble at the end; those that nobody waits for end with it
        yield _Pool(jobs, executor.submit, lambda future: future.result(), lambda future: None)
        done = True
    finally:
        workers = list(executor._processes.values())
        if not done:
            threading.excepthook = lambda arguments: None  # it may still stumble, which nobody needs to read
        executor.shutdown(kill_workers=not done)
        threading.excepthook = hook
        for worker in (one for one in workers if not done and one.is_alive()):
            os.kill(worker.pid, signal.SIGKILL)


@contextmanager
def _dask(jobs: int, where: str) -> Iterator[_Pool]:
    try:
        import dask
        from distributed import Client, LocalCluster, WorkerPlugin
    except ImportError as error:
        raise ImportError(
            "cluster dask: expected the package dask, found none; pip install 'dask[distributed]'"
        ) from error

    class Environment(WorkerPlugin):
        """Tells workers that others started how to compute, before they import what computes."""

        def setup(self, worker):
            os.environ.update(ENVIRONMENT)

    local = None
    if where == "local":
        with dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}):
            local = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    try:
        client = Client(local or where, timeout=WAIT_S)
    except OSError as error:
        raise ValueError(f"cluster dask://{where}: expected a scheduler, none answers ({error})") from error
    try:
        client.register_plugin(Environment())
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError as error:
            raise ValueError(f"cluster dask://{where}: expected workers, found none in {WAIT_S} s") from error
        workers = sum(client.nthreads().values())
        yield _Pool(
            workers,
            partial(client.submit, pure=False),
            lambda future: future.result(),
            lambda future: future.cancel(),
        )
    finally:
        client.close()
        if local:
            local.close()


@contextmanager
def _ray(jobs: int, where: str) -> Iterator[_Pool]:
    try:
        import ray
    except ImportError as error:
        raise ImportError("cluster ray: expected the package ray, found none; pip install ray") from error

    given = {"runtime_env": {"env_vars": ENVIRONMENT}, "address": f"ray://{where}"}
    if where == "local":
        os.environ.setdefault(
            "RAY_USAGE_STATS_ENABLED", "0"
        )  # nothing is sent to Ray's makers unless asked for
        found_here = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
        given = {"runtime_env": {"env_vars": found_here}, "num_cpus": jobs, "include_dashboard": False}
    try:
        ray.init(**given, log_to_driver=False)
    except (ConnectionError, TimeoutError) as error:
        raise ValueError(f"cluster ray://{where}: expected a Ray cluster, none answers ({error})") from error
    try:
        call = ray.remote(num_cpus=1)(_call)
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield _Pool(workers, call.remote, ray.get, ray.cancel)
    finally:
        ray.shutdown()


def _call(function: Callable, item):
    return function(item)


POOLS: dict[str, Callable[[int, str], AbstractContextManager[_Pool]]] = {
    "": _processes,
    "dask": _dask,
    "ray": _ray,
}
