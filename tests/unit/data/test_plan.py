import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rsdl.core.errors import ConfigError
from rsdl.core.rng import fingerprint
from rsdl.data.class_balance import class_balanced_counts, repeated_shards
from rsdl.data.plan import PlannedBatch, SamplingPlan, Share, check_share, deal_parts
from rsdl.data.shuffle import GlobalOrder, OrderRule

# Uneven, of one sample, and empty ones among them.
SHARDS = st.lists(st.one_of(st.integers(0, 30), st.just(1)), min_size=1, max_size=12).filter(sum)
RULES = st.builds(
    OrderRule,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 300),
    window=st.integers(1, 6),
    partitions=st.integers(1, 4),
)
SHARES = st.tuples(st.integers(1, 5), st.integers(1, 3))  # world size, accumulation

BILLION = """
import resource
import numpy as np

from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.plan import SamplingPlan, Share

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
order = GlobalOrder(np.full(100_000, 10_000), OrderRule(1, 2, window=16, partitions=8))
plan = SamplingPlan(order, global_batch=4096)
first = next(plan.batches(Share(rank=3, world_size=64)))
late = next(plan.batches(Share(rank=3, world_size=64), start=4096 * 200_000))
assert len(set(first.samples)) == len(set(late.samples)) == 64
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def plan_of(shards: list[int], rule: OrderRule, batch: int, tail: str = "pad") -> SamplingPlan:
    return SamplingPlan(GlobalOrder(np.array(shards), rule), global_batch=batch, tail=tail)


def counted(batches: list[PlannedBatch]) -> list[int]:
    return [int(s) for batch in batches for s in batch.samples[batch.valid]]


def all_ranks(
    plan: SamplingPlan, world_size: int, accumulate: int, start: int = 0
) -> list[list[PlannedBatch]]:
    shares = [Share(rank, world_size, accumulate) for rank in range(world_size)]
    return [list(plan.batches(share, start)) for share in shares]


@given(shards=SHARDS, rule=RULES)
def test_the_global_order_has_every_sample_once(shards: list[int], rule: OrderRule):
    order = GlobalOrder(np.array(shards), rule)
    assert sorted(order.at(np.arange(sum(shards)))) == list(range(sum(shards)))


@given(shards=SHARDS, rule=RULES, data=st.data())
def test_the_order_is_the_same_however_it_is_asked_for(
    shards: list[int], rule: OrderRule, data: st.DataObject
):
    num = sum(shards)
    whole = GlobalOrder(np.array(shards), rule).at(np.arange(num))
    asked = np.array(data.draw(st.lists(st.integers(0, num - 1), min_size=1, max_size=30)))

    order = GlobalOrder(np.array(shards), rule)

    assert order.at(asked).tolist() == whole[asked].tolist()
    assert [int(order.at(np.array([place]))[0]) for place in asked] == whole[asked].tolist()


@given(shards=SHARDS, rule=RULES, share=SHARES, per_part=st.integers(1, 4))
def test_dropping_the_tail_leaves_whole_batches_of_different_samples(
    shards: list[int], rule: OrderRule, share: tuple[int, int], per_part: int
):
    batch = share[0] * share[1] * per_part * rule.partitions
    plan = plan_of(shards, rule, batch, "drop")

    ranks = all_ranks(plan, *share)
    read = [s for rank in ranks for s in counted(rank)]

    assert len(read) == len(set(read)) == sum(shards) // batch * batch == plan.num_planned
    assert {len(rank) for rank in ranks} == {plan.num_batches() * share[1]}
    assert all(planned.valid.all() for rank in ranks for planned in rank)


@given(shards=SHARDS, rule=RULES, share=SHARES, tail=st.sampled_from(["drop", "pad", "shrink"]))
def test_what_a_batch_says_of_itself_adds_up_over_ranks(
    shards: list[int], rule: OrderRule, share: tuple[int, int], tail: str
):
    batch = share[0] * share[1] * rule.partitions * 2
    plan = plan_of(shards, rule, batch, tail)
    valid: Counter[int] = Counter()
    said: dict[int, int] = {}
    total = 0
    for rank in all_ranks(plan, *share):
        for planned in rank:
            assert len(planned.draws) == len(planned.samples) == len(planned.valid)
            valid[planned.number] += int(planned.valid.sum())
            assert said.setdefault(planned.number, planned.num_planned) == planned.num_planned
            total += fingerprint(planned.draws[planned.valid])

    assert valid == said
    assert sum(said.values()) == plan.num_planned
    assert total % 2**64 == plan.fingerprint()


@given(shards=SHARDS, rule=RULES, per_partition=st.integers(1, 5))
def test_each_batch_takes_the_same_number_from_each_partition(
    shards: list[int], rule: OrderRule, per_partition: int
):
    batch = rule.partitions * per_partition
    plan = plan_of(shards, rule, batch, "drop")
    whole = GlobalOrder(np.array(shards), rule).at(np.arange(sum(shards)))
    partition_of = {int(s): place % rule.partitions for place, s in enumerate(whole)}

    for planned in plan.batches(Share()):
        taken = Counter(partition_of[int(s)] for s in planned.samples)
        assert dict(taken) == dict.fromkeys(range(rule.partitions), per_partition)


@given(shards=st.lists(st.integers(1, 30), min_size=4, max_size=12), rule=RULES)
def test_a_partition_reads_few_shards_and_they_are_told(shards: list[int], rule: OrderRule):
    order = GlobalOrder(np.array(shards), rule)
    ends = np.cumsum(shards)
    whole = order.at(np.arange(sum(shards)))
    stream = []
    for partition in range(rule.partitions):
        shards_read = set(np.searchsorted(ends, whole[partition :: rule.partitions], side="right"))
        assert len(order.shards_of(partition)) == len(shards_read)
        stream += order.shards_of(partition).tolist()
    # Neighbours share at most the shard that the cut goes through.
    assert len(stream) <= len(shards) + rule.partitions - 1


@given(shards=SHARDS, rule=RULES, share=SHARES, data=st.data())
def test_resuming_yields_the_rest_of_the_uninterrupted_epoch(
    shards: list[int], rule: OrderRule, share: tuple[int, int], data: st.DataObject
):
    batch = share[0] * share[1] * rule.partitions
    tail = data.draw(st.sampled_from(["drop", "pad", "shrink"]))
    plan = plan_of(shards, rule, batch, tail)
    done = data.draw(st.integers(0, plan.num_batches()))

    for whole, rest in zip(
        all_ranks(plan, *share), all_ranks(plan, *share, done * batch), strict=True
    ):
        expected = whole[done * share[1] :]
        assert len(rest) == len(expected)
        for one, other in zip(rest, expected, strict=True):
            assert one.number == other.number
            assert one.samples.tolist() == other.samples.tolist()
            assert one.valid.tolist() == other.valid.tolist()
            assert one.num_planned == other.num_planned


@given(num=st.integers(1, 200), batch=st.integers(1, 8), world_size=st.integers(1, 7))
def test_evaluation_counts_each_sample_once_at_every_world_size(
    num: int, batch: int, world_size: int
):
    order = GlobalOrder(np.array([num]), OrderRule(0, 0, shuffle=False))
    plan = SamplingPlan(order, global_batch=batch * world_size, tail="shrink")

    ranks = all_ranks(plan, world_size, 1)

    assert sorted(s for rank in ranks for s in counted(rank)) == list(range(num))
    assert len({len(rank) for rank in ranks}) == 1
    rows = sum(len(planned.samples) for rank in ranks for planned in rank)
    assert rows < num + world_size


@given(
    shards=SHARDS,
    rule=RULES,
    share=SHARES,
    per_partition=st.integers(1, 6),
    multiple=st.integers(1, 2),
    tail=st.sampled_from(["drop", "pad", "shrink"]),
)
def test_parts_that_are_filled_up_leave_the_global_batches_as_they_are(
    shards: list[int],
    rule: OrderRule,
    share: tuple[int, int],
    per_partition: int,
    multiple: int,
    tail: str,
):
    plan = plan_of(shards, rule, per_partition * rule.partitions, tail)
    whole = [batch.draws[batch.valid].tolist() for batch in plan.batches(Share())]
    seen: dict[int, list[int]] = {}
    for rank in range(share[0]):
        for batch in plan.batches(Share(rank, *share, multiple)):
            assert len(batch.draws) % multiple == 0
            seen.setdefault(batch.number, []).extend(batch.draws[batch.valid].tolist())
    assert [seen[number] for number in sorted(seen)] == whole


def test_samples_are_shuffled_anew_every_epoch_and_seed():
    def order(seed: int, epoch: int) -> list[int]:
        return GlobalOrder(np.full(20, 25), OrderRule(seed, epoch)).at(np.arange(500)).tolist()

    orders = [order(0, 0), order(0, 1), order(1, 0)]

    assert order(0, 0) == orders[0]
    for place, one in enumerate(orders):
        others = [other for number, other in enumerate(orders) if number != place]
        assert all(sum(a == b for a, b in zip(one, o, strict=True)) < 20 for o in others)
        assert sum(abs(a - b) == 1 for a, b in pairwise(one)) < 20


def test_samples_of_one_window_mix_and_of_others_do_not():
    order = GlobalOrder(np.full(8, 100), OrderRule(3, 0, window=4))
    samples = order.at(np.arange(800))
    first = set(samples[:400] // 100)

    assert len(first) == 4
    assert not first & set(samples[400:] // 100)
    # Each hundred of a window draws on all of its shards.
    assert all(set(samples[at : at + 100] // 100) == first for at in range(0, 400, 100))


def test_the_order_is_the_same_on_every_machine():
    order = GlobalOrder(np.array([3, 1, 4, 1, 5]), OrderRule(9, 2, window=2, partitions=2))
    assert order.at(np.arange(14)).tolist() == [10, 1, 12, 7, 11, 5, 9, 2, 8, 4, 13, 6, 0, 3]


def test_a_billion_samples_are_planned_in_little_memory():
    done = subprocess.run(
        [sys.executable, "-c", BILLION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, "MiB; one number for each sample would be 8,000"


def test_walking_through_an_epoch_keeps_no_more_than_a_few_windows():
    order = GlobalOrder(np.full(1000, 500), OrderRule(1, 2, window=4, partitions=2))
    order.at(np.arange(10))
    tracemalloc.start()
    try:
        for start in range(0, 500_000, 1000):
            order.at(np.arange(start, start + 1000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000, "bytes; the order of the whole epoch would be 4,000,000"


def test_no_shuffling_means_the_order_of_the_index():
    order = GlobalOrder(np.array([2, 3, 1]), OrderRule(5, 1, shuffle=False))
    assert order.at(np.arange(6)).tolist() == [0, 1, 2, 3, 4, 5]


def test_an_empty_split_has_no_batches():
    plan = plan_of([], OrderRule(0, 0), 4)
    assert plan.num_batches() == 0
    assert list(plan.batches(Share())) == []


@given(batch=st.integers(1, 200), share=SHARES)
def test_a_batch_that_cannot_be_shared_is_refused_with_ones_that_can(
    batch: int, share: tuple[int, int]
):
    parts = share[0] * share[1]
    assume(batch % parts)
    with pytest.raises(ConfigError) as caught:
        check_share(batch, Share(0, *share))
    advised = [int(word) for word in str(caught.value.remedy).split() if word.isdigit()]
    assert len(advised) == 2
    assert all(size > 0 and size % parts == 0 for size in advised)


def test_a_batch_that_partitions_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"data\.batch_size: 10 .* 4 partitions"):
        plan_of([20], OrderRule(0, 0, partitions=4), 10)


@given(size=st.integers(1, 70), num_workers=st.integers(1, 9), number=st.integers(0, 20))
def test_workers_get_all_rows_in_even_parts(size: int, num_workers: int, number: int):
    rows = np.arange(size)
    planned = PlannedBatch(number, rows, rows, rows >= 0, size)

    parts = deal_parts(planned, num_workers)

    assert [row for _, start, stop in parts for row in range(start, stop)] == rows.tolist()
    assert len({worker for worker, _, _ in parts}) == len(parts) == min(size, num_workers)
    lengths = [stop - start for _, start, stop in parts]
    assert min(lengths) > 0 and max(lengths) - min(lengths) <= 1
    assert all(0 <= worker < num_workers for worker, _, _ in parts)


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_balanced_sampling_draws_every_class_equally_often(
    labels: list[int], seed: int, epoch: int
):
    given_labels = np.array(labels)
    repeats = class_balanced_counts(given_labels, seed=seed, epoch=epoch)

    assert repeats.sum() == len(labels)
    draws = np.bincount(given_labels, weights=repeats)
    present = draws[np.unique(given_labels)]
    assert present.max() - present.min() <= 1
    for label in np.unique(given_labels):
        within = repeats[given_labels == label]
        assert within.max() - within.min() <= 1


@given(labels=st.lists(st.integers(0, 4), min_size=6, max_size=60), rule=RULES)
def test_a_balanced_plan_draws_each_sample_as_often_as_told(labels: list[int], rule: OrderRule):
    shards = np.array([2, 1, len(labels) - 3])
    repeats = class_balanced_counts(np.array(labels), seed=rule.seed, epoch=rule.epoch)
    per_shard = repeated_shards(shards, repeats)
    assert per_shard.sum() == len(labels)
    plan = SamplingPlan(
        GlobalOrder(per_shard, rule), global_batch=2 * rule.partitions, tail="pad", repeats=repeats
    )

    batches = list(plan.batches(Share()))

    read = Counter(counted(batches))
    assert [read[sample] for sample in range(len(labels))] == repeats.tolist()
    draws = [int(d) for planned in batches for d in planned.draws[planned.valid]]
    assert len(set(draws)) == len(draws), "each draw has a name of its own"


def test_which_samples_are_drawn_more_often_changes_with_the_epoch():
    labels = np.array([0] * 50 + [1] * 20)
    epochs = [class_balanced_counts(labels, seed=0, epoch=epoch).tolist() for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


WORLDS = (1, 2, 3, 4, 8)


def delivered(
    plan: SamplingPlan, world_size: int, accumulate: int, num_workers: int, start: int, stop: int
) -> list[list[tuple[int, int]]]:
    """Return (draw, sample) of each global batch as ranks and their workers read them, sorted.

    Batches ``start`` to ``stop`` of the epoch; padding is left out.
    """
    batches: dict[int, list[tuple[int, int]]] = {}
    for rank in range(world_size):
        share = Share(rank, world_size, accumulate)
        for planned in plan.batches(share, start * plan.global_batch):
            if planned.number >= stop:
                break
            for _, first, last in deal_parts(planned, num_workers):
                rows = slice(first, last)
                counts = planned.valid[rows]
                draws, samples = planned.draws[rows][counts], planned.samples[rows][counts]
                pairs = zip(draws.tolist(), samples.tolist(), strict=True)
                batches.setdefault(planned.number, []).extend(pairs)
    return [sorted(batches[number]) for number in sorted(batches)]


@given(
    shards=SHARDS,
    rule=RULES,
    tail=st.sampled_from(["drop", "pad", "shrink"]),
    accumulate=st.integers(1, 2),
    workers=st.tuples(*[st.integers(1, 9)] * len(WORLDS)),
    balanced=st.booleans(),
)
def test_worlds_of_1_2_3_4_and_8_read_the_one_global_order(
    shards: list[int],
    rule: OrderRule,
    tail: str,
    accumulate: int,
    workers: tuple[int, ...],
    balanced: bool,
):
    """DESIGN, who reads what: one global order, whatever the ranks, workers and accumulation."""
    sizes, repeats = np.array(shards), None
    if balanced:
        labels = np.arange(sizes.sum()) % 3
        repeats = class_balanced_counts(labels, seed=rule.seed, epoch=rule.epoch)
        sizes = repeated_shards(sizes, repeats)
    batch = 24 * accumulate * rule.partitions
    plan = SamplingPlan(GlobalOrder(sizes, rule), global_batch=batch, tail=tail, repeats=repeats)
    order = GlobalOrder(sizes, rule).at(np.arange(sizes.sum()))
    samples = plan.samples_of(order)
    expected = [
        sorted(zip(order[at : at + batch].tolist(), samples[at : at + batch].tolist(), strict=True))
        for at in range(0, plan.num_planned, batch)
    ]

    for world_size, num_workers in zip(WORLDS, workers, strict=True):
        every = plan.num_batches()
        assert delivered(plan, world_size, accumulate, num_workers, 0, every) == expected


@given(
    shards=SHARDS,
    rule=RULES,
    tail=st.sampled_from(["drop", "pad"]),
    per_part=st.integers(1, 2),
    moves=st.lists(st.tuples(st.sampled_from(WORLDS), st.integers(1, 2), st.integers(1, 3)),
                   min_size=2, max_size=4),
    data=st.data(),
)  # fmt: skip
def test_a_run_that_moves_between_world_sizes_reads_the_one_global_order(
    shards: list[int],
    rule: OrderRule,
    tail: str,
    per_part: int,
    moves: list[tuple[int, int, int]],
    data: st.DataObject,
):
    """DESIGN, who reads what: resuming at another world size is a seek in the same order."""
    parts = int(np.lcm.reduce([world_size * accumulate for world_size, accumulate, _ in moves]))
    assume(parts * per_part * rule.partitions <= 400)
    plan = plan_of(shards, rule, parts * per_part * rule.partitions, tail)
    every = plan.num_batches()
    stops = sorted(data.draw(st.lists(st.integers(0, every), min_size=len(moves) - 1,
                                      max_size=len(moves) - 1)))  # fmt: skip
    edges = [0, *stops, every]

    read = []
    for (world_size, accumulate, num_workers), (start, stop) in zip(
        moves, pairwise(edges), strict=True
    ):
        read += delivered(plan, world_size, accumulate, num_workers, start, stop)

    assert read == delivered(plan, 1, 1, 1, 0, every)
    assert sum(map(len, read)) == plan.num_planned
    draws = np.array([draw for batch in read for draw, _ in batch], dtype=np.int64)
    assert fingerprint(draws) == plan.fingerprint()
