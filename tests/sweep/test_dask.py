"""A real cluster of processes: killed workers lose nothing, and nobody waits for ever."""

import logging
import os
import signal
import sys
import time
from collections import Counter

import pytest
from unruly import ended, unruly

from sparsim.errors import ConfigError, MissingExtra
from sparsim.sweep.execute import DIED, Pool, Task, Work
from sparsim.sweep.store import model_version
from sparsim.workload import Operand, Workload

pytestmark = pytest.mark.extra
WORK = Work("auto", "", model_version())


def square(seed=0):
    operand = Operand.random(60, 60, 0.1, seed)
    return Workload(operand, operand)


def started(workers):
    distributed = pytest.importorskip("distributed", reason="needs sparsim[dask]")
    for name in ("distributed", "distributed.scheduler", "distributed.nanny", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def cluster():
    with started(3) as cluster:
        yield cluster


def test_a_worker_killed_in_the_middle_loses_nothing_and_repeats_only_what_it_was_doing(cluster, tmp_path):
    log, keys = tmp_path / "log", [f"t{number}" for number in range(40)]
    tasks = [Task(key, square(number % 2), unruly(seconds=0.1, log=log, label=key)) for number, key in enumerate(keys)]
    arrived, victim, before = [], None, set()
    with Pool(WORK, dask=cluster.scheduler_address) as pool:
        for outcome in pool.run(tasks):
            assert outcome.error == ""
            arrived.append(outcome.key)
            if len(arrived) == 10:
                victim, before = ended(log)[-1][0], set(arrived)
                os.kill(victim, signal.SIGKILL)
    assert sorted(arrived) == sorted(keys)
    runs = ended(log)
    assert len({process for process, _ in runs}) >= 3
    assert {label for _, label in runs} == set(keys)
    repeated = {label for label, times in Counter(label for _, label in runs).items() if times > 1}
    assert not repeated & before
    for label in repeated:
        first, *others = [process for process, ran in runs if ran == label]
        assert (first == victim, len(others)) == (True, 1)


def test_what_kills_every_worker_is_an_outcome_and_the_others_finish(cluster):
    tasks = [Task(f"t{number}", square(), unruly(seconds=0.01)) for number in range(12)]
    tasks[2] = Task("t2", square(), unruly("die"))
    tasks[5] = Task("t5", square(), unruly("raise"))
    with Pool(WORK, dask=cluster.scheduler_address) as pool:
        found = {outcome.key: outcome.error for outcome in pool.run(tasks)}
    errors = {key: error for key, error in found.items() if error}
    assert len(found) == 12
    assert errors == {"t2": DIED, "t5": "ZeroDivisionError: of my own\\nmaking"}


def test_a_workload_is_sent_once_and_survives_those_who_hold_it(cluster):
    from sparsim.sweep.dask import Cluster

    workloads = [square(0), square(1)]
    connection = Cluster(cluster.scheduler_address)
    try:
        tasks = [Task(str(number), workloads[number // 3], unruly()) for number in range(6)]
        sent = [future for _, future, _ in connection.sent(tasks)]
        assert [sent.index(future) for future in sent] == [0, 0, 0, 3, 3, 3]
        assert sent[0].result(timeout=20).sha256 == workloads[0].sha256
        (holders,) = sent[0].client.who_has([sent[0]]).values()
        assert len(holders) == 1
        for nanny in cluster.workers.values():
            if nanny.worker_address in holders:
                os.kill(nanny.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert sent[0].result(timeout=20).sha256 == workloads[0].sha256
    finally:
        connection.close()


def test_a_cluster_of_one_thread_is_used_and_its_end_is_an_error(tmp_path):
    log, arrived = tmp_path / "log", []
    tasks = [Task(str(number), square(), unruly(seconds=0.05, log=log, label=number)) for number in range(20)]

    def sweep(alone):
        with Pool(WORK, dask=alone.scheduler_address) as pool:
            for outcome in pool.run(tasks):
                assert outcome.error == ""
                arrived.append(outcome.key)
                if len(arrived) == 3:
                    alone.close()

    with started(1) as alone, pytest.raises(ConfigError, match=r"^--dask: the scheduler at 'tcp://.*' is gone .*$"):
        sweep(alone)
    assert len(arrived) == len(set(arrived)) >= 3
    assert os.getpid() not in {process for process, _ in ended(log)}


def test_another_version_of_the_models_is_refused(cluster):
    with Pool(Work("auto", "", "0.0+other"), dask=cluster.scheduler_address) as pool:
        (outcome,) = pool.run([Task("k", square(), unruly())])
    assert outcome.error.startswith("ConfigError: the worker's models are version ")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "telnet://host:1"])
def test_an_address_where_nobody_answers(monkeypatch, address):
    pytest.importorskip("distributed", reason="needs sparsim[dask]")
    from sparsim.sweep import dask

    monkeypatch.setattr(dask, "ANSWERS_WITHIN_S", 0.5)
    with (
        pytest.raises(ConfigError, match=f"--dask: no Dask scheduler answers at '{address}'"),
        Pool(WORK, dask=address),
    ):
        pass


def test_a_cluster_without_workers(monkeypatch):
    pytest.importorskip("distributed", reason="needs sparsim[dask]")
    from sparsim.sweep import dask

    monkeypatch.setattr(dask, "WORKERS_WITHIN_S", 0.5)
    refused = pytest.raises(ConfigError, match="--dask: no worker has joined the scheduler at")
    with started(0) as empty, Pool(WORK, dask=empty.scheduler_address) as pool, refused:
        list(pool.run([Task("k", square(), unruly())]))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "sparsim.sweep.dask", raising=False)
    told = r"a sweep on a cluster needs an optional library; install it with: pip install 'sparsim\[dask\]'"
    with pytest.raises(MissingExtra, match=told), Pool(WORK, dask="tcp://127.0.0.1:9"):
        pass
