import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rsdl.data.class_balance import class_balanced_counts, repeated_shards
from rsdl.data.plan import SamplingPlan, Share
from rsdl.data.prefetch_schedule import ShardRequest, walk_requests, window_bytes
from rsdl.data.shuffle import GlobalOrder, OrderRule

SHARDS = st.lists(st.integers(1, 30), min_size=1, max_size=14)
RULES = st.builds(
    OrderRule,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 300),
    window=st.integers(1, 5),
    partitions=st.integers(1, 4),
)
WORLDS = st.tuples(st.integers(1, 5), st.integers(1, 3))  # world size, accumulation
TAILS = st.sampled_from(["drop", "pad", "shrink"])

BILLION = """
import itertools, resource
import numpy as np
from rsdl.data.prefetch_schedule import walk_requests
from rsdl.data.shuffle import GlobalOrder, OrderRule
from rsdl.data.plan import SamplingPlan, Share

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
order = GlobalOrder(np.full(100_000, 10_000), OrderRule(1, 2, window=16, partitions=8))
plan = SamplingPlan(order, global_batch=4096)
for start in (0, 4096 * 200_000):
    needs = list(itertools.islice(walk_requests(plan, Share(rank=3, world_size=64), start), 1000))
    assert len({need.shard for need in needs}) == 1000 and needs[0].first <= start < needs[0].stop
assert sum(1 for _ in walk_requests(plan, Share(rank=3, world_size=64))) in (12_500, 12_501)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def reads(
    plan: SamplingPlan, share: Share, start: int, ends: np.ndarray
) -> Iterator[tuple[int, set[int]]]:
    """Yield where each batch begins and the shards of the samples in it that count."""
    for planned in plan.batches(share, start):
        begin = start + (planned.number - start // plan.global_batch) * plan.global_batch
        samples = planned.samples[planned.valid]
        yield begin, set(np.searchsorted(ends, samples, side="right").tolist())


def check(plan: SamplingPlan, share: Share, start: int, ends: np.ndarray) -> list[ShardRequest]:
    """Check that a rank reads what it was said to need and when, and return the needs."""
    requests = list(walk_requests(plan, share, start))
    for begin, shards in reads(plan, share, start, ends):
        reach = begin + plan.global_batch
        at_hand = {
            request.shard for request in requests if request.first < reach and request.stop > begin
        }
        assert shards <= at_hand
    assert [request.first for request in requests] == sorted(request.first for request in requests)
    assert all(
        start <= request.early <= max(request.first, start) < request.stop for request in requests
    )
    return requests


@given(shards=SHARDS, rule=RULES, world=WORLDS, tail=TAILS, data=st.data())
def test_what_a_rank_reads_is_what_it_was_said_to_need(
    shards: list[int], rule: OrderRule, world: tuple[int, int], tail: str, data: st.DataObject
):
    share = Share(data.draw(st.integers(0, world[0] - 1)), *world)
    batch = share.parts * rule.partitions * data.draw(st.integers(1, 4))
    plan = SamplingPlan(GlobalOrder(np.array(shards), rule), global_batch=batch, tail=tail)
    start = data.draw(st.integers(0, sum(shards)))
    check(plan, share, start, np.cumsum(shards))


def test_a_shrunk_last_batch_is_read_from_partitions_of_other_ranks():
    rule = OrderRule(0, 0, window=1, partitions=4)
    plan = SamplingPlan(GlobalOrder(np.array([1, 1]), rule), global_batch=8, tail="shrink")
    check(plan, Share(1, 2), 0, np.array([1, 2]))


@given(shards=SHARDS, world=WORLDS, size=st.integers(1, 12), data=st.data())
def test_an_evaluating_rank_needs_no_shard_that_it_does_not_read(
    shards: list[int], world: tuple[int, int], size: int, data: st.DataObject
):
    share = Share(data.draw(st.integers(0, world[0] - 1)), world[0])
    order = GlobalOrder(np.array(shards), OrderRule(0, 0, window=3, shuffle=False))
    plan = SamplingPlan(order, global_batch=size * world[0], tail="shrink")
    ends = np.cumsum(shards)
    requests = check(plan, share, 0, ends)
    read = set().union(*(found for _, found in reads(plan, share, 0, ends)))
    # The last batch may be a padded one, whose rows count for nobody.
    assert read <= {request.shard for request in requests}
    whole = [found for begin, found in reads(plan, share, 0, ends)][:-1]
    extra = {request.shard for request in requests} - read
    assert not whole or all(shard >= max(set().union(*whole), default=0) for shard in extra)


@given(shards=SHARDS, rule=RULES, per_part=st.integers(1, 4))
def test_a_rank_alone_needs_every_shard_and_no_more_than_a_window_at_a_time(
    shards: list[int], rule: OrderRule, per_part: int
):
    plan = SamplingPlan(
        GlobalOrder(np.array(shards), rule), global_batch=per_part * rule.partitions, tail="pad"
    )
    requests = list(walk_requests(plan, Share()))
    assert {request.shard for request in requests} == set(range(len(shards)))
    sizes = np.array(shards) * 10
    most = window_bytes(plan, Share(), sizes)
    for position in {request.first for request in requests}:
        for part in range(rule.partitions):
            alive = [n for n in requests if n.first <= position < n.stop]
            mine = {n.shard for n in alive if n.first % rule.partitions == part}
            assert len(mine) <= rule.window + (rule.partitions > 1)
        assert sizes[list({n.shard for n in alive})].sum() <= most


@given(shards=st.lists(st.integers(1, 9), min_size=6, max_size=20), rule=RULES)
def test_a_window_may_be_fetched_while_the_one_before_is_read_and_not_earlier(
    shards: list[int], rule: OrderRule
):
    plan = SamplingPlan(
        GlobalOrder(np.array(shards), rule), global_batch=rule.partitions, tail="pad"
    )
    for part in range(rule.partitions):
        requests = [n for n in walk_requests(plan, Share()) if n.first % rule.partitions == part]
        firsts = sorted({request.first for request in requests})
        before = dict(zip(firsts[1:], firsts, strict=False))
        assert all(request.early == before.get(request.first, 0) for request in requests)


@given(shards=SHARDS, rule=RULES, per_part=st.integers(1, 4))
def test_in_the_end_the_next_epoch_s_first_windows_are_needed(
    shards: list[int], rule: OrderRule, per_part: int
):
    batch = per_part * rule.partitions
    plan, following = (
        SamplingPlan(
            GlobalOrder(
                np.array(shards),
                OrderRule(rule.seed, epoch, rule.window, rule.partitions),
            ),
            global_batch=batch,
            tail="pad",
        )
        for epoch in (0, 1)
    )
    own = list(walk_requests(plan, Share()))
    rest = list(walk_requests(plan, Share(), following=lambda: following))[len(own) :]
    first = next(reads(following, Share(), 0, np.cumsum(shards)))[1]
    assert rest and all(request.first >= plan.num_planned for request in rest)
    assert {request.early for request in rest} == {max(request.first for request in own)}
    reached = {
        request.shard for request in rest if request.first < plan.num_batches() * batch + batch
    }
    assert len(first) == 0 or first & reached


@given(labels=st.lists(st.integers(0, 4), min_size=6, max_size=60), rule=RULES)
def test_samples_drawn_repeatedly_or_not_at_all_are_foreseen(labels: list[int], rule: OrderRule):
    shards = np.array([2, 1, len(labels) - 3])
    repeats = class_balanced_counts(np.array(labels), seed=rule.seed, epoch=rule.epoch)
    order = GlobalOrder(repeated_shards(shards, repeats), rule)
    plan = SamplingPlan(order, global_batch=2 * rule.partitions, tail="pad", repeats=repeats)
    requests = check(plan, Share(), 0, np.cumsum(shards))
    drawn = {int(s) for _, found in reads(plan, Share(), 0, np.cumsum(shards)) for s in found}
    assert {request.shard for request in requests} == drawn


def test_a_billion_samples_are_walked_in_little_memory():
    done = subprocess.run(
        [sys.executable, "-c", BILLION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, "MiB; one number for each sample would be 8,000"


def test_the_walk_stops_when_nobody_asks():
    order = GlobalOrder(np.full(1000, 5), OrderRule(0, 0, window=4))
    plan = SamplingPlan(order, global_batch=10)
    assert len(list(islice(walk_requests(plan, Share()), 3))) == 3
