"""The part of ``docs/scaling.md`` on one run over many GPUs."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from benchmarks.harness.tables import format_figure, markdown_table
from benchmarks.scaling.cluster import Epoch
from benchmarks.scaling.model import (
    BACKWARD_SHARE,
    LargeRun,
    Network,
    draw,
    efficiency,
    fetching_cpu_s,
    link_needed,
    loading_ms,
    networks,
    ring_bytes,
)

CARD = "a100"
CARDS = ("rtx3090", "a100")
LINKS = (10.0, 25.0, 100.0)
SMALL_GB = 30.0  # what the cluster advises for a rolling window
NODES = (1, 2, 4, 8, 16)
FACTORS = (0.5, 1.0, 2.0)


def whole_gb(run: LargeRun) -> float:
    """Return the GB of a cache that holds the data set, plus 20%."""
    return round(1.2 * run.shards * run.shard_bytes / 1e9)


def whole_run(run: LargeRun, cache_gb: float) -> tuple[Epoch, ...]:
    """Return all epochs of a run with as many partitions as nodes."""
    # Without a cache all epochs are equal.
    count = run.epochs if cache_gb else 1
    found = draw(run, partitions=run.nodes, cache_gb=cache_gb, epochs=count)
    return found * (run.epochs // count)


def drawn_tb(epochs: Sequence[Epoch]) -> float:
    """Return the TB that epochs read from the store."""
    return sum(sum(epoch.drawn) for epoch in epochs) / 1e12


def extremes() -> tuple[Network, Network]:
    """Return the fastest and the slowest of the nine networks."""
    found = sorted(networks(), key=lambda net: net.images_per_s(CARD))
    return found[-1], found[0]


def limits(
    net: Network, card: str, run: LargeRun, cache_gb: float, factor: float = 1.0
) -> tuple[float, str]:
    """Return the seconds of a mean epoch, and the bottleneck: GPUs, links, store or exchange.

    Gradients and imagery share a node's link: an epoch takes at least the sum of both.
    """
    step = net.step_s(card, run.batch, factor=factor)
    epochs = whole_run(run, cache_gb)
    steps = run.images / (run.world * run.batch)
    sent = ring_bytes(net, run.world, compressed=True) * 8 / (run.node_gbit * 1e9)
    sent *= run.nodes > 1  # within a node, gradients do not use the link
    times = {
        "GPUs": steps * step,
        "a node's link": fmean(epoch.link_s for epoch in epochs) + steps * sent,
        "the store": fmean(epoch.store_s for epoch in epochs),
        "exchange of gradients": steps * ((1 - BACKWARD_SHARE) * step + sent),
    }
    bottleneck = max(times, key=lambda name: times[name])
    return times[bottleneck], bottleneck


def plan(run: LargeRun) -> list[str]:
    """Return the large run's part of the resource plan."""
    fast, slow = extremes()
    total_tb = run.shards * run.shard_bytes / 1e12
    lines = [
        f"**One run on {run.world} GPUs** ({run.nodes} nodes of {run.gpus}, {run.epochs} epochs "
        f"over {run.images / 1e6:.0f} M images, {total_tb:g} TB; more than 50 GPUs, so a plan "
        "must be presented), with a cache for the whole data set on each node:",
        "",
    ]
    for net in (fast, slow):
        for card in CARDS:
            found = [limits(net, card, run, whole_gb(run), factor) for factor in FACTORS]
            low, middle, high = (seconds * run.epochs / 3600 for seconds, _ in found)
            lines.append(
                f"- {net.name} on {card}: {run.world * middle:,.0f} GPU-hours, {middle:.1f} h, "
                f"limited by {found[1][1]} ({low:.1f} h at half the utilization, {high:.1f} h at "
                "double)"
            )
    need = fast.images_per_s(CARD) * loading_ms("rsdl", run.side_px) / 1e3
    big, small = (drawn_tb(whole_run(run, size)) for size in (whole_gb(run), SMALL_GB))
    lines += [
        f"- disk for the cache (`data.cache.size`), with `data.partitions: {run.nodes}`: "
        f"{whole_gb(run):,.0f} GB on each node make {big:,.1f} TB from the store in all, "
        f"{SMALL_GB:g} GB make {small:,.1f} TB. Shards are dealt anew in every epoch, so a cache "
        "of a node's share alone saves little",
        f"- up to {need:.0f} cores a GPU for the fastest network on {CARD} (the table of cores "
        "says more)",
        "- `trainer.compress_gradients: true`, and nodes of one region: see the network below",
    ]
    return lines


def sections(run: LargeRun) -> list[str]:
    """Return the sections on the large run."""
    return [
        f"## One run on {run.world} GPUs",
        "",
        f"Assumed: {run.nodes} nodes of {run.gpus} GPUs, {run.batch} images a GPU and step, "
        f"{run.images / 1e6:.0f} M JPEGs of {run.side_px} px and {run.image_bytes / 1e3:.0f} kB "
        f"in {run.shards:,} shards, trained at 224 px for {run.epochs} epochs.",
        "",
        *bytes_drawn(run), "", *network(run), "", *cores(run), "", *saturation(run), "",
    ]  # fmt: skip


def bytes_drawn(run: LargeRun) -> list[str]:
    """Return the section on bytes read from the store, simulated."""
    rows = []
    total = run.shards * run.shard_bytes
    share = round(1.2 * total / run.nodes / 1e9)
    cases = [(run.nodes, size) for size in (0.0, SMALL_GB, share, total / 2e9, whole_gb(run))]
    for partitions, cache_gb in [*cases, (1, 0.0), (1, SMALL_GB)]:
        # With one partition all epochs after the first are equal.
        count = run.epochs if partitions > 1 else 3
        epochs = draw(run, partitions=partitions, cache_gb=cache_gb, epochs=count)
        whole = drawn_tb(epochs) + (run.epochs - count) * drawn_tb(epochs[-1:])
        rows.append(
            [f"{partitions} partition{'s' * (partitions > 1)}, "
             f"{f'cache of {cache_gb:g} GB' if cache_gb else 'no cache'}",
             *(f"{sum(epochs[k].drawn) / total:.2f}" for k in (0, 1, -1)),
             f"{whole:,.1f}", format_figure(whole * 1e3 * fetching_cpu_s() / 3600)]
        )  # fmt: skip
    return [
        "### Bytes from the store",
        "",
        "The sampling plan replayed (computed). With as many partitions as nodes each node reads "
        "its share alone; with one, every node needs samples of every shard, and a node with a "
        "cache fetches shards whole of which it reads a part. Shards are dealt to the nodes anew "
        "in every epoch: only a cache for much more than a node's share saves bytes from epoch to "
        "epoch:",
        "",
        *markdown_table(
            ["", "data sets, first epoch", "second", "last", "TB, whole run", "CPU-hours to fetch"],
            rows,
        ),
    ]  # fmt: skip


def network(run: LargeRun) -> list[str]:
    """Return the section on the exchange of gradients."""
    rows = []
    for net in networks():
        rows.append(
            [net.name,
             *(f"{ring_bytes(net, run.world, compressed=c) / 1e6:,.0f}" for c in (False, True)),
             *(f"{1e3 * net.step_s(card, run.batch):,.0f}" for card in CARDS),
             *(f"{link_needed(net, card, run, compressed=True):,.1f}" for card in CARDS),
             *(f"{efficiency(net, CARD, run, gbit):.0%}" for gbit in LINKS),
             f"{efficiency(net, CARD, run, run.node_gbit, overlap=0.0):.0%}"]
        )  # fmt: skip
    return [
        "### Network",
        "",
        f"A ring all-reduce over {run.world} GPUs sends 2 x {run.world - 1}/{run.world} of the "
        "gradients through each node's link at every step: 4 bytes a parameter, 2 with "
        "`trainer.compress_gradients`. DDP overlaps that with backward. Assumed: backward is "
        f"{BACKWARD_SHARE:.0%} of the step and hides all that fits into it, which is the best "
        "case; at worst nothing is hidden. Efficiency is the share of a step that computes, with "
        f"bf16 gradients on {CARD}:",
        "",
        *markdown_table(
            ["", "MB sent a step, fp32", "bf16",
             *(f"ms a step, {card}" for card in CARDS),
             *(f"Gbit/s to hide bf16, {card}" for card in CARDS),
             *(f"efficiency at {gbit:g} Gbit/s" for gbit in LINKS),
             f"at {run.node_gbit:g} Gbit/s, nothing hidden"], rows,
        ),
        "",
        "The Gbit/s needed fall in proportion to the images of a GPU and step, and with a lower "
        "utilization. Where memory is short, `trainer.accumulate` makes a larger batch of "
        "several: gradients are exchanged once for all of them. fp32 gradients need twice as much.",
    ]  # fmt: skip


def cores(run: LargeRun) -> list[str]:
    """Return the section on the cores that a GPU needs."""
    ways = {"JPEG": "rsdl", "decoded cache": "rsdl, decoded cache"}
    rows = [
        [net.name,
         *(format_figure(net.images_per_s(card) * loading_ms(row, run.side_px) / 1e3)
           for card in CARDS for row in ways.values())]
        for net in networks()
    ]  # fmt: skip
    pixels_gb = run.images * run.side_px**2 * 3 / 1e9
    return [
        "### Cores",
        "",
        f"Cores that loading keeps busy for one GPU: measured CPU time of an image ({run.side_px} "
        f"px: {loading_ms('rsdl', run.side_px):.2f} ms from JPEG) times the rate above. The "
        f"decoded cache would take {pixels_gb:,.0f} GB of disk for all pixels. Smaller tiles are "
        f"cheaper: one of 256 px takes {loading_ms('rsdl', 256):.2f} ms.",
        "",
        *markdown_table(["", *(f"{card}, {words}" for card in CARDS for words in ways)], rows),
    ]


def saturation(run: LargeRun) -> list[str]:
    """Return the section on the bottleneck, by number of nodes."""
    fast, slow = extremes()
    rows = []
    for net in (fast, slow):
        for nodes in NODES:
            size = replace(run, nodes=nodes)
            cells = []
            for cache_gb in (0.0, whole_gb(size)):
                seconds, bottleneck = limits(net, CARD, size, cache_gb)
                cells += [f"{run.images / seconds:,.0f}", bottleneck]
            rows.append([f"{net.name}, {size.world} GPUs", *cells])
    return [
        "### Where it saturates",
        "",
        f"Images/s of the whole run on {CARD} and what decides, when all runs at its bound: the "
        f"GPUs, a node's link ({run.node_gbit:g} Gbit/s, for imagery and bf16 gradients "
        f"together), the store ({run.store_gbit:g} Gbit/s), or gradients that backward does not "
        "hide. Partitions = nodes; mean over all epochs, without a cache and with one for the "
        "whole data set on each node; enough cores:",
        "",
        *markdown_table(["", "no cache", "limited by", "cache", "limited by"], rows),
    ]
