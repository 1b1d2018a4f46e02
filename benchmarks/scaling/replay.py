"""Bytes that a cluster reads from its store per epoch, simulated with and without partitions.

The sampling plan of a run is replayed for every node with caches of several sizes; see
``cluster.py`` for the model. With as many partitions as nodes, each node reads only its share.
Without partitions, every node with a cache fetches every shard, of which it uses a few samples.

    python -m benchmarks.scaling.replay [--nodes 8] [--gpus 8] [--shards 4096]

Every round has another seed; values are of the epochs after the first, whose caches are cold.
"""

import argparse
import statistics
from dataclasses import replace
from typing import Any

from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark
from benchmarks.scaling.cluster import Cluster, Imagery, simulate

GB = 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--nodes", type=int, default=8, help="nodes (%(default)s)")
    add("--gpus", type=int, default=8, help="GPUs a node (%(default)s)")
    add("--batch", type=int, default=64, help="samples a GPU and step (%(default)s)")
    add("--images-per-s", type=float, default=1000, help="a GPU computes (%(default)s)")
    add("--shards", type=int, default=4096, help="shards (%(default)s)")
    add("--shard-samples", type=int, default=2000, help="samples in each (%(default)s)")
    add("--shard-mb", type=float, default=256, help="MB of each (%(default)s)")
    add("--window", type=int, default=16, help="data.window (%(default)s)")
    add("--cache-gb", type=float, nargs="*", default=[30.0, 300.0], help="caches (30 300)")
    add("--node-gbit", type=float, default=10, help="a node's link, Gbit/s (%(default)s)")
    add("--store-gbit", type=float, default=80, help="the store, Gbit/s (%(default)s)")
    add("--epochs", type=int, default=3, help="epochs, of which the first is cold (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Simulate; return the result."""
    shards = options.shards // 8 if options.quick else options.shards
    imagery = Imagery(
        shards, options.shard_samples, int(options.shard_mb * 1e6), options.window, 1, options.batch
    )
    cluster = Cluster(
        options.nodes, options.gpus, options.images_per_s, options.node_gbit * 1e9 / 8,
        options.store_gbit * 1e9 / 8, 0,
    )  # fmt: skip
    rows = []
    parts = {"partitions = nodes": options.nodes, "one partition": 1}
    for words, partitions in parts.items():
        for cache_gb in options.cache_gb:
            name = f"{words}, cache of {cache_gb:g} GB a node"
            case = replace(cluster, cache_bytes=int(cache_gb * GB))
            rows.append(measure(name, case, replace(imagery, partitions=partitions), options))
    reference = rows[0].name
    for words, partitions in parts.items():
        name = f"{words}, no cache"
        rows.append(measure(name, cluster, replace(imagery, partitions=partitions), options))
    aims = [
        Aim(f"{row.name}: data sets drawn an epoch", statistics.median(row.values), 1.05, False)
        for row in rows
        if row.name.startswith("partitions = nodes")
    ]
    title = (
        f"{options.nodes} nodes x {options.gpus} GPUs, {shards:,} shards of {options.shard_mb:g} "
        f"MB ({imagery.total_bytes / GB:,.0f} GB), window {options.window}"
    )
    table = Table(title, "data sets drawn an epoch", reference, rows, aims)
    return build_result(
        "scale", "Bytes from the store, simulated", [table], options=vars(options), versions={}
    )


def measure(name: str, cluster: Cluster, imagery: Imagery, options: argparse.Namespace) -> Row:
    """Return the bytes that a cluster reads, one value per seed."""
    epochs = [
        simulate(cluster, imagery, seed=seed, epochs=options.epochs)[1:]
        for seed in range(options.rounds)
    ]
    total = imagery.total_bytes
    values = [statistics.mean(sum(e.drawn) / total for e in found) for found in epochs]
    last = epochs[0][-1]
    images = imagery.shards * imagery.shard_samples
    facts = {
        "GB a node": max(last.drawn) / GB,
        "epoch, s": last.seconds,
        "images/s": images / last.seconds,
        "GPUs busy, %": 100 * last.compute_s / last.seconds,
    }
    return Row(name, values, f"limited by {last.bottleneck}", facts)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
