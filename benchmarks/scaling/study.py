"""The part of ``docs/scaling.md`` on the study: 27 models, each on its own GPU."""

from benchmarks.harness.tables import format_figure, markdown_table
from benchmarks.scaling.model import (
    CARDS,
    STARTS,
    Network,
    Part,
    fetching_cpu_s,
    loading_ms,
    networks,
    parts,
)

PUBLISHED_TB = 124.74  # imagery read, as stated by the case study that this one repeats
PUBLISHED_EPOCHS = 8100
FACTORS = {"half": 0.5, "as assumed": 1.0, "double": 2.0}


def hours(net: Network, part: Part, card: str, factor: float = 1.0) -> float:
    """Return the GPU-hours of one run."""
    return net.gpu_hours(card, part.trained, part.validated, factor=factor)


def total_hours(card: str, factor: float = 1.0) -> float:
    """Return the GPU-hours of all runs."""
    return sum(hours(net, part, card, factor) for net in networks() for part in parts())


def longest(card: str, factor: float = 1.0) -> tuple[float, str]:
    """Return the hours of the longest run, and its name."""
    return max(
        (hours(net, part, card, factor), f"{net.name}_{part.name}")
        for net in networks()
        for part in parts()
    )


def drawn_tb(*, cached: bool) -> float:
    """Return the TB that all runs read from the store: once per start, or uncached per epoch."""
    times = [STARTS if cached else part.epochs for part in parts()]
    pairs = zip(parts(), times, strict=True)
    return len(networks()) * sum(part.encoded_gb * count for part, count in pairs) / 1e3


def plan() -> list[str]:
    """Return the study's part of the resource plan."""
    num = len(networks()) * len(parts())
    lines = [
        f"**The study** ({num} jobs of one GPU each, {num} GPUs at most at once: below the 50 "
        "that need a plan):",
        "",
    ]
    for card in CARDS:
        worst, name = longest(card)
        low, high = total_hours(card, 2.0), total_hours(card, 0.5)
        lines.append(
            f"- on {card}: {total_hours(card):,.0f} GPU-hours ({low:,.0f} to {high:,.0f}); all at "
            f"once it is over in {worst:.1f} h, which is {name}'s time"
        )
    cores = max(part.cores for part in parts())
    lines.append(
        f"- {cores} cores a GPU, as the manifests ask; {drawn_tb(cached=True):.2f} TB from the "
        f"store over the whole study with the node cache, {drawn_tb(cached=False):.1f} TB without"
    )
    return lines


def sections() -> list[str]:
    """Return the sections on the study."""
    return ["## The study", "", *work(), "", *gpu_hours(), "", *bytes_drawn(), "", *cores(), ""]


def work() -> list[str]:
    """Return the section on the amount of work."""
    rows = [
        [part.name, f"{part.images:,}", f"{part.side_px}", f"{part.epochs}", f"{part.batch}",
         f"{len(networks()) * part.steps:,}",
         f"{len(networks()) * part.epochs * part.encoded_gb / 1e3:.2f}",
         f"{len(networks()) * part.epochs * part.decoded_gb / 1e3:.2f}"]
        for part in parts()
    ]  # fmt: skip
    epochs = len(networks()) * sum(part.epochs for part in parts())
    decoded = len(networks()) * sum(p.epochs * p.decoded_gb for p in parts()) / 1e3
    return [
        "From the committed configs, for the nine networks together (80% of the images train, 10% "
        "validate in every epoch):",
        "",
        *markdown_table(
            ["", "images", "px", "epochs", "batch", "steps", "TB encoded", "TB decoded"], rows
        ),
        "",
        f"{epochs:,} epochs; {decoded:.1f} TB of pixels are decoded. The published case study "
        f"counts {PUBLISHED_EPOCHS:,} epochs and {PUBLISHED_TB} TB of imagery read, "
        f"{PUBLISHED_TB / decoded:.1f} times as much for as many epochs: how it counts is not "
        "known here, so nothing is fitted to it. A run's own count stands in its `run.json`.",
    ]


def gpu_hours() -> list[str]:
    """Return the section on GPU-hours."""
    rows = [
        [net.name, *(f"{sum(hours(net, p, card) for p in parts()):,.1f}" for card in CARDS)]
        for net in networks()
    ]
    rows += [
        [f"**all 27, utilization {words}**",
         *(f"**{total_hours(card, factor):,.0f}**" for card in CARDS)]
        for words, factor in FACTORS.items()
    ]  # fmt: skip
    rows.append(["longest run, h", *(f"{longest(card)[0]:.1f}" for card in CARDS)])
    return [
        "GPU-hours over the three data sets, at the assumed utilization (a share above 100% of "
        "the peak counts as 100%), without waiting in queues:",
        "",
        *markdown_table(["", *CARDS], rows),
    ]


def bytes_drawn() -> list[str]:
    """Return the section on bytes read from the store."""
    rows = [
        [words, f"{drawn_tb(cached=cached):.2f}",
         format_figure(1e3 * drawn_tb(cached=cached) * fetching_cpu_s() / 3600)]
        for words, cached in (("with the node cache", True), ("without: every epoch", False))
    ]  # fmt: skip
    worst, num = longest("rtx3090")[0], len(networks()) * len(parts())
    mean = drawn_tb(cached=False) * 8e3 / (worst * 3600)
    return [
        "Bytes from the store. With the node cache (`data.cache`, on the pod's own disk) each of "
        f"the {STARTS} assumed starts of a pod draws its data set once; without, every epoch does:",
        "",
        *markdown_table(["", "TB from the store", "CPU-hours to fetch"], rows),
        "",
        f"Even without, all {num} at once on rtx3090 draw {mean:.2f} Gbit/s on average over the "
        "longest run: the study does not strain the store. The cache is there so that it does "
        "not wait for it.",
    ]


def cores() -> list[str]:
    """Return the section on the cores that feed a GPU."""
    fast, slow = (pick(networks(), key=lambda n: n.images_per_s("a100")) for pick in (max, min))
    rows = []
    for net in (fast, slow):
        for part in parts():
            for row, words in (("rsdl", "JPEG"), ("rsdl, decoded cache", "decoded cache")):
                need = [
                    format_figure(net.images_per_s(card) * loading_ms(row, part.side_px) / 1e3)
                    for card in CARDS
                ]
                rows.append([f"{net.name}, {part.name}, {words}", *need, f"{part.cores}"])
    return [
        "Cores that loading keeps busy for one GPU, for the fastest and the slowest network (the "
        "decoded cache serves from the second epoch on, where the pixels fit). Where it exceeds "
        "the cores of the pod, loading holds the GPU back in the first epoch; double utilization "
        "doubles it:",
        "",
        *markdown_table(["", *CARDS, "a pod has"], rows),
    ]
