"""The memory monitor: does it see what really happens, and does it leave nothing behind?"""

from __future__ import annotations

import builtins
import csv
import gc
import json
import logging
import mmap
import os
import pathlib
import resource
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorstream as ts
from tensorstream import _core
from tensorstream.monitor import SAMPLE_DTYPE, MemoryMonitor, MemorySample, memory

MIB = 1024**2
SIZE = 100 * MIB


class Ballast:
    """Memory that is really there, and really gone after drop()."""

    def __init__(self, size: int = SIZE) -> None:
        self.pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(self.pages, np.uint8)[:: mmap.PAGESIZE] = 1

    def drop(self) -> None:
        gc.collect()
        self.pages.close()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until the condition holds; a machine may be slow, but not for ever."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def wait_for_samples(monitor: MemoryMonitor, count: int = 3) -> None:
    before = monitor.summary()["samples"]
    wait_for(lambda: monitor.summary()["samples"] >= before + count)


def threads_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


def files_of_process() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- one sample ---------------------------------------------------------------------


def test_a_sample_has_the_fields_of_the_core() -> None:
    assert MemorySample._fields == (*_core.memory_fields, "headroom")
    assert SAMPLE_DTYPE.itemsize == 8 * len(_core.memory_fields)
    assert len(_core.memory_sample()) == len(MemorySample._fields)


def test_memory_agrees_with_the_kernel() -> None:
    before = time.monotonic_ns()
    sample = ts.memory(pss=True)
    assert before <= sample.time_ns <= time.monotonic_ns()
    meminfo = pathlib.Path("/proc/meminfo").read_text()
    total = next(line for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    assert sample.total == int(total.split()[1]) * 1024
    assert sample.rss is not None and sample.pss is not None
    assert sample.rss_anon is not None and sample.rss_file is not None
    assert sample.rss_peak is not None and sample.headroom is not None
    # Other figures of the same thing, each counted in its own way.
    assert sample.rss_anon + sample.rss_file == pytest.approx(sample.rss, rel=0.05)
    assert sample.rss_peak >= 0.95 * sample.rss
    assert 0 < sample.pss <= 1.05 * sample.rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert sample.rss_peak == pytest.approx(peak, rel=0.05)
    assert memory().pss is None


def test_memory_sees_what_is_allocated() -> None:
    before = memory()
    ballast = Ballast()
    during = memory()
    ballast.drop()
    after = memory()
    assert before.rss and during.rss and after.rss and before.rss_anon and during.rss_anon
    assert 0.95 * SIZE < during.rss - before.rss < 1.2 * SIZE
    assert 0.95 * SIZE < during.rss_anon - before.rss_anon < 1.2 * SIZE
    assert during.rss - after.rss > 0.95 * SIZE


def test_a_sample_reads_well() -> None:
    values: dict[str, Any] = dict.fromkeys(MemorySample._fields)
    sample = MemorySample(**values | {"time_ns": 5, "rss": 3 * MIB // 2, "total": 8 * 1024**3})
    assert repr(sample) == "MemorySample(rss=1.5 MiB, total=8.0 GiB)"
    assert sample.limit == 8 * 1024**3
    assert sample._replace(cgroup_limit=7, address_limit=9).limit == 7
    assert sample._replace(total=None).limit is None


def run_python(script: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        **keywords,
    )


def test_an_address_space_limit_bounds_the_headroom() -> None:
    script = """
        import resource
        import tensorstream as ts
        now = ts.memory()
        limit = now.address_used + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sample = ts.memory()
        assert sample.address_limit == limit and sample.limit <= limit
        assert 32 * 2**20 < sample.headroom <= 64 * 2**20, sample
    """
    done = run_python(script)
    assert done.returncode == 0, done.stderr


# ---- a run --------------------------------------------------------------------------


def test_peak_and_history_show_an_allocation() -> None:
    with MemoryMonitor(interval=0.001) as monitor:
        wait_for_samples(monitor)
        first = monitor.current.rss
        ballast = Ballast()
        wait_for_samples(monitor)
        high = monitor.current.rss
        ballast.drop()
        wait_for_samples(monitor)
        last = monitor.current.rss
    assert first is not None and high is not None and last is not None
    peak = monitor.peak.rss
    assert peak is not None
    assert 0.95 * SIZE < high - first < 1.2 * SIZE
    assert peak >= high and peak - last > 0.95 * SIZE
    assert monitor.get_peak_memory() == peak / 1024**2

    samples = monitor.samples
    assert samples.dtype == SAMPLE_DTYPE and not samples.flags.writeable
    assert np.all(np.diff(samples["time_ns"]) > 0)
    assert samples["rss"].max() >= high and samples["rss"].min() <= last
    assert np.all(samples["pss"] == -1), "not asked for"


def test_a_peak_between_two_samples_is_seen() -> None:
    """The kernel's high-water mark must rise for it, so it runs in a young process."""
    script = """
        import mmap
        import numpy as np
        from tensorstream import MemoryMonitor
        with MemoryMonitor(interval=60) as monitor:
            before = monitor.current.rss
            pages = mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            np.frombuffer(pages, np.uint8)[::4096] = 1
            pages.close()
        assert len(monitor.samples) == 2
        assert monitor.peak.rss - before > 95 << 20, monitor.peak
        assert monitor.samples["rss"].max() - before < 50 << 20
    """
    done = run_python(script)
    assert done.returncode == 0, done.stderr


def test_sampling_goes_on_while_python_is_busy() -> None:
    with MemoryMonitor(interval=0.001) as monitor:
        before = monitor.summary()["samples"]
        end = time.perf_counter() + 0.2
        sum(range(10**7))  # one bytecode-bound call after another: no I/O, no sleep
        while time.perf_counter() < end:
            pass
        taken = monitor.summary()["samples"] - before
    assert taken >= 40


def test_history_is_bounded_and_spans_the_run() -> None:
    with MemoryMonitor(interval=0.001, history=16) as monitor:
        wait_for(lambda: monitor.summary()["samples"] > 200)
    summary, samples = monitor.summary(), monitor.samples
    assert 8 <= len(samples) <= 16
    assert summary["duration"] == (samples["time_ns"][-1] - samples["time_ns"][0]) / 1e9
    assert summary["duration"] >= 0.2
    gaps = np.diff(samples["time_ns"][:-1])
    assert gaps.max() < 5 * np.median(gaps) or gaps.max() < 2e8, "spread over the run"


def test_without_history_peaks_remain() -> None:
    with MemoryMonitor(interval=0.001, history=0) as monitor:
        wait_for_samples(monitor)
    assert len(monitor.samples) == 0
    assert monitor.peak.rss
    assert monitor.summary()["mean_rss"] is None
    assert "iB" in monitor._repr_html_()


def test_pss_when_asked_for() -> None:
    with MemoryMonitor(interval=0.01, pss=True) as monitor:
        pass
    peak = monitor.peak
    assert peak.pss is not None and peak.rss is not None and 0 < peak.pss <= 1.05 * peak.rss
    assert monitor.summary()["peak_pss"] == peak.pss


def test_summary_keys_and_mean() -> None:
    monitor = MemoryMonitor(interval=0.001).start()
    ballast = Ballast()
    wait_for_samples(monitor, 20)
    ballast.drop()
    monitor.stop()
    summary = monitor.summary()
    assert set(summary) == {
        "samples", "duration", "interval", "start_rss", "final_rss", "peak_rss", "mean_rss",
        "growth", "peak_pss", "peak_swap", "peak_cgroup_used", "cgroup_limit", "headroom",
        "crossings",
    }  # fmt: skip
    assert summary["samples"] >= 21 and summary["peak_pss"] is None
    assert summary["growth"] == summary["final_rss"] - summary["start_rss"]
    assert summary["start_rss"] < summary["mean_rss"] < summary["peak_rss"]
    assert json.loads(json.dumps(summary)) == summary


def test_the_originals_names() -> None:
    monitor = MemoryMonitor(interval=0.5)
    assert monitor.get_peak_memory() == 0.0
    monitor.start_monitoring()
    assert monitor.running
    ballast = Ballast()
    monitor.stop_monitoring()
    assert not monitor.running
    ballast.drop()
    assert isinstance(monitor.get_peak_memory(), float)
    assert monitor.get_peak_memory() > 100  # MB


def test_start_and_stop_as_often_as_one_likes() -> None:
    monitor = MemoryMonitor(interval=0.01)
    monitor.stop()
    with pytest.raises(RuntimeError, match="never started"):
        monitor.summary()
    with pytest.raises(RuntimeError, match="never started"):
        _ = monitor.peak
    assert len(monitor.samples) == 0 and monitor.current.rss
    assert repr(monitor) == "MemoryMonitor(interval=0.01, not started)"
    assert "not started" in monitor._repr_html_()
    assert monitor.start() is monitor.start()
    wait_for_samples(monitor, 5)
    assert repr(monitor).startswith("MemoryMonitor(running, ")
    monitor.stop()
    monitor.stop()
    taken = monitor.summary()["samples"]
    assert taken >= 6
    monitor.start()
    assert monitor.summary()["samples"] < taken, "a new run"
    monitor.stop()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"interval": 0}, "interval must be from 0.001"),
        ({"interval": float("nan")}, "interval must be from 0.001"),
        ({"interval": 1e9}, "interval must be from 0.001"),
        ({"history": -1}, "history must be from 0"),
        ({"history": 2**21}, "history must be from 0"),
        ({"thresholds": ["3 parsecs"]}, "threshold: unknown unit 'parsecs'"),
        ({"thresholds": [0]}, "at least one byte"),
        ({"thresholds": [-0.5]}, "threshold"),
        ({"thresholds": [1.5]}, "threshold: 1.5 is not a whole number"),
    ],
)
def test_bad_arguments(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MemoryMonitor(**keywords)


def test_the_core_checks_for_itself() -> None:
    with pytest.raises(ValueError, match=r"interval must be from 0\.001"):
        _core.Sampler(0.0)
    with pytest.raises(ValueError, match="history cannot be -1"):
        _core.Sampler(1.0, False, -1)
    with pytest.raises(ValueError, match="history must be at most"):
        _core.Sampler(1.0, False, 2**31)
    sampler = _core.Sampler(1.0)
    with pytest.raises(OverflowError):
        sampler.threshold(-1)
    with pytest.raises(TypeError):
        sampler.threshold("1")  # type: ignore[arg-type]
    assert sampler.next_event(0) is None
    sampler.stop()
    with pytest.raises(EOFError):
        sampler.next_event(0)


# ---- thresholds -----------------------------------------------------------------------


def test_a_threshold_fires_exactly_once_a_crossing() -> None:
    seen: list[tuple[MemorySample, int]] = []
    now = memory().rss
    assert now is not None
    size = max(SIZE, now // 4)  # well beyond what a crossing must fall back by
    line = now + size // 2
    monitor = MemoryMonitor(
        interval=0.001,
        thresholds=[line, now + 100 * size],
        on_threshold=lambda sample, found: seen.append((sample, found)),
    )
    with monitor:
        wait_for_samples(monitor)
        assert seen == []
        ballast = Ballast(size)
        wait_for(lambda: len(seen) > 0)
        wait_for_samples(monitor, 20)
        assert len(seen) == 1
        ballast.drop()
        wait_for_samples(monitor)
        ballast = Ballast(size)
        wait_for(lambda: len(seen) > 1)
        wait_for_samples(monitor, 20)
    ballast.drop()
    assert len(seen) == 2
    assert all(found == line and sample.rss and sample.rss >= line for sample, found in seen)
    assert [crossing.threshold for crossing in monitor.crossings] == [line, line]
    assert monitor.summary()["crossings"] == 2


def test_stop_delivers_what_was_crossed() -> None:
    seen: list[int] = []
    with MemoryMonitor(interval=60) as monitor:
        monitor.add_threshold("1 MiB", lambda sample, size: seen.append(size))
    assert seen == [MIB], "the last sample is above it"


def test_thresholds_as_sizes_fractions_and_mappings() -> None:
    limit = memory().limit
    assert limit is not None
    monitor = MemoryMonitor(thresholds={"2GiB": lambda sample, size: None, 0.5: print})
    assert monitor.thresholds == [2 * 1024**3, int(limit * 0.5)]
    assert monitor.add_threshold(1.0) == limit
    assert monitor.add_threshold(np.float32(0.25)) == int(limit * 0.25)
    assert monitor.add_threshold(np.int64(1)) == 1
    assert monitor.add_threshold(4096.0) == 4096


def test_a_failing_callback_is_logged_and_the_next_one_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []

    def fail(sample: MemorySample, size: int) -> None:
        raise LookupError("from the callback")

    with (
        caplog.at_level(logging.ERROR, logger="tensorstream"),
        MemoryMonitor(interval=0.001) as monitor,
    ):
        monitor.add_threshold(MIB, fail)
        wait_for(lambda: len(monitor.crossings) == 1)
        monitor.add_threshold(2 * MIB, lambda sample, size: seen.append(size))
        wait_for(lambda: len(seen) == 1)
    assert "the callback of memory threshold 1.0 MiB failed" in caplog.text
    assert "from the callback" in caplog.text


def test_at_most_32_thresholds() -> None:
    with MemoryMonitor(interval=1) as monitor:
        for size in range(32):
            monitor.add_threshold(2**60 + size)
        with pytest.raises(ValueError, match="already 32 thresholds"):
            monitor.add_threshold(1)
        assert len(monitor.thresholds) == 32
    with pytest.raises(ValueError, match="already 32 thresholds"):
        MemoryMonitor(thresholds=range(1, 34)).start()


def test_a_callback_may_stop_the_monitor() -> None:
    done = threading.Event()
    monitor = MemoryMonitor(interval=0.001)

    def stop(sample: MemorySample, size: int) -> None:
        monitor.stop()
        done.set()

    monitor.add_threshold(MIB, stop)
    monitor.start()
    assert done.wait(20)
    assert not monitor.running
    wait_for(lambda: not any("thresholds" in t.name for t in threading.enumerate()))


# ---- leaving nothing behind ------------------------------------------------------------


def test_200_cycles_leave_no_thread_and_no_file() -> None:
    MemoryMonitor().start().stop()
    gc.collect()  # what earlier tests dropped
    threads, files = threads_of_process(), files_of_process()
    begin = time.monotonic()
    for _ in range(200):
        with MemoryMonitor(interval=3600, thresholds=["1 MiB"]):
            pass
    assert time.monotonic() - begin < 30, "stop does not wait for the interval"
    # A joined thread may still be on its last steps out of the kernel's list.
    wait_for(lambda: threads_of_process() == threads)
    assert files_of_process() == files


def test_a_dropped_monitor_stops() -> None:
    gc.collect()  # what earlier tests dropped
    threads, files = threads_of_process(), files_of_process()
    monitor = MemoryMonitor(interval=0.01, thresholds=["1 TiB"]).start()
    assert threads_of_process() == threads + 2
    gone = weakref.ref(monitor)
    del monitor
    gc.collect()
    assert gone() is None
    wait_for(lambda: threads_of_process() == threads and files_of_process() == files)


def test_a_process_may_end_while_it_is_monitored() -> None:
    script = """
        from tensorstream import MemoryMonitor
        monitor = MemoryMonitor(interval=0.001, thresholds=["1 MiB"]).start()
        print("done")
    """
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_many_threads_may_use_one_monitor() -> None:
    monitor = MemoryMonitor(interval=0.001, thresholds=["1 MiB"])
    failures: list[BaseException] = []
    end = time.monotonic() + 0.5

    def use() -> None:
        try:
            while time.monotonic() < end:
                monitor.start()
                assert monitor.current.rss
                assert monitor.peak.rss
                assert len(monitor.samples) >= 1
                assert monitor.crossings is not None
                monitor.stop()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=use) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    assert not monitor.running


def child_status(use: Callable[[], None]) -> int:
    """Run use() in a forked child; its exit status, a signal's number negative."""
    with warnings.catch_warnings():
        # Python 3.12 says that forking beside threads is dangerous: that is the test.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 70
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            use()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 99


def test_a_forked_child_reads_and_starts_its_own() -> None:
    monitor = MemoryMonitor(interval=0.001, thresholds=["1 MiB"]).start()

    def use() -> None:
        assert not monitor.running
        assert monitor.current.rss
        monitor.stop()
        assert len(monitor.samples) == 0
        monitor.start()
        assert monitor.running
        wait_for_samples(monitor)
        monitor.stop()

    for _ in range(10):
        assert child_status(use) == 0
    wait_for_samples(monitor)
    monitor.stop()


# ---- showing and keeping ----------------------------------------------------------------


@pytest.fixture
def finished() -> MemoryMonitor:
    monitor = MemoryMonitor(interval=0.001, thresholds=["50 MiB"])
    with monitor:
        wait_for_samples(monitor, 10)
    return monitor


def test_csv_has_a_row_for_each_sample(finished: MemoryMonitor, tmp_path: pathlib.Path) -> None:
    finished.to_csv(tmp_path / "run.csv")
    with open(tmp_path / "run.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rss"]) for row in rows] == finished.samples["rss"].tolist()
    assert {row["pss"] for row in rows} == {""}


def test_json_reads_back(finished: MemoryMonitor, tmp_path: pathlib.Path) -> None:
    finished.to_json(tmp_path / "run.json")
    whole = json.loads((tmp_path / "run.json").read_text())
    assert whole["summary"] == finished.summary()
    assert whole["thresholds"] == [50 * MIB]
    assert whole["samples"]["rss"] == finished.samples["rss"].tolist()
    assert set(whole["samples"]["pss"]) == {None}


def test_plot_writes_a_picture(finished: MemoryMonitor, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    axes = finished.plot(tmp_path / "run.png")
    written = (tmp_path / "run.png").read_bytes()
    assert written.startswith(b"\x89PNG\r\n") and len(written) > 5000
    (line,) = [line for line in axes.get_lines() if line.get_label() == "rss"]
    assert len(line.get_xdata()) == len(finished.samples)
    assert axes.get_xlabel() == "seconds" and axes.get_ylabel() == "MiB"

    from matplotlib.figure import Figure

    mine = Figure().add_subplot()
    assert finished.plot_memory_usage(tmp_path / "run.svg", ax=mine) is mine
    assert b"<svg" in (tmp_path / "run.svg").read_bytes()


def test_plot_shows_in_pyplot(finished: MemoryMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot

    axes = finished.plot()
    assert pyplot.gcf() is axes.get_figure()
    pyplot.close("all")


def test_plot_without_matplotlib_says_what_to_install(
    finished: MemoryMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **keywords: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'tensorstream\[plot\]'"):
        finished.plot()


def test_the_notebook_view_is_static(finished: MemoryMonitor) -> None:
    view = finished._repr_html_()
    assert "peak rss" in view and "<svg" in view and "<polyline" in view
    assert "<script" not in view and "on" + "click" not in view


def test_monitoring_costs_little() -> None:
    """Not a benchmark: a bound that only a mistake would break."""
    before = time.process_time()
    with MemoryMonitor(interval=0.01) as monitor:
        time.sleep(0.5)
    spent = time.process_time() - before
    assert spent < 0.1, f"{spent} s for {monitor.summary()['samples']} samples"
