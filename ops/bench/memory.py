"""The memory of a worker over many jobs."""

import time
from statistics import median
from threading import Thread

import psutil
from figures import Figure
from messages import distinct
from testbed import Testbed, resident_bytes

CONCURRENCY = 128
MEGABYTE = 1024**2
STALLED = 60
"""Seconds without a job in which something is broken."""

Sample = tuple[float, int, int]
"""Time (s), jobs done, bytes."""


def measure(testbed: Testbed, jobs: int) -> list[Figure]:
    """What a worker holds after all jobs, in what it held after a fifth of them.

    Args:
        testbed: where to measure.
        jobs: how many.
    """
    group = f"memory over {jobs:,} jobs"
    testbed.clear(latency=(0, 0), calls="100000/1s", egress="", recipients="")
    rules = testbed.rules(calls="50000/1s", recipients="")
    with (
        testbed.workers(1, concurrency=CONCURRENCY, env=rules) as workers,
        testbed.client() as client,
    ):
        producer = Thread(target=client.send_many, args=[distinct(jobs)])
        producer.start()
        samples = _samples(testbed, workers, jobs)
        producer.join()
    early, late = _around(samples, jobs // 5, jobs), _around(samples, jobs, jobs)
    peak = max(held for _, _, held in samples)
    (began, done, _), (ended, all_done, _) = samples[0], samples[-1]
    note = f"{early / MEGABYTE:.1f} → {late / MEGABYTE:.1f} MB, {CONCURRENCY} at once"
    return [
        Figure(group, "end ÷ a fifth", late / early, "×", at_least=0.95, at_most=1.05, note=note),
        Figure(group, "most", peak / MEGABYTE, "MB"),
        Figure(group, "jobs a second", (all_done - done) / (ended - began), "/s"),
    ]


def _samples(testbed: Testbed, workers: list[psutil.Process], jobs: int) -> list[Sample]:
    """From the first job to the last one.

    Raises:
        TimeoutError: the worker has stopped doing them.
    """
    samples: list[Sample] = []
    progress = time.monotonic()
    while not samples or samples[-1][1] < jobs:
        time.sleep(0.2)
        now, done = time.monotonic(), testbed.delivered()
        if done > (samples[-1][1] if samples else 0):
            samples.append((now, done, resident_bytes(workers)))
            progress = now
        elif now - progress > STALLED:
            raise TimeoutError(f"{done} of {jobs} jobs, and then nothing for {STALLED} s")
    return samples


def _around(samples: list[Sample], mark: int, jobs: int) -> float:
    """What was held, by the median of the samples around a number of jobs."""
    near = [held for _, done, held in samples if abs(done - mark) <= jobs / 40]
    # Short runs pass the mark between two looks.
    return median(near or [min(samples, key=lambda sample: abs(sample[1] - mark))[2]])
