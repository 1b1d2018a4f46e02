"""A loader in its own process that delivers at a given rate until it is killed.

python -m benchmarks.trainer.gil_load DATASET_URL IMAGES_PER_S SIZE THREADS
"""

import sys
import time

from benchmarks.trainer.gil_contention import BATCH, read_batches


def main() -> None:
    """Load batches at the rate in the arguments."""
    url, rate, size, threads = sys.argv[1:]
    due = None
    for _ in read_batches(url, int(size), int(threads)):
        if due is None:
            print("begun", flush=True)
            due = time.perf_counter()
        due += BATCH / float(rate)
        time.sleep(max(due - time.perf_counter(), 0))


if __name__ == "__main__":
    main()
