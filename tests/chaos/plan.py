"""What is killed, where and when: a pure function of the seed and the round's number."""

import random
from dataclasses import dataclass, field
from typing import Any

# Functions that begin something; a kill comes a random while after such a beginning.
BEGINNINGS = {
    "cache": "rsdl.storage.cache.node_cache:NodeCache.hold",
    "step": "rsdl.train.module:TrainingModule.training_step",
    "checkpoint": "rsdl.train.checkpoint_io:StoreCheckpointIO.save_checkpoint",
    "validation": "rsdl.train.module:TrainingModule.validation_step",
    "record": "rsdl.train.run_folder:RunFolder.write_record",
    "end": "rsdl.commands.train_rank:finish",
}
# How often each is chosen, and the last of its calls that may be. Two are not beginnings:
# "clock" strikes at any time from the start of the process, "call" inside a system call.
WEIGHTS = {"cache": 3, "step": 3, "checkpoint": 5, "validation": 2, "record": 2, "end": 1,
           "clock": 4, "call": 4}  # fmt: skip
LAST_CALLS = {"cache": 12, "step": 6, "checkpoint": 8, "validation": 4, "record": 8, "end": 1}
LAST_SYSTEM_CALL = 90

# What runs differ in; every one keeps the checkpoints of nearly every step.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixing": {
        "data__num_workers": 3,
        "data__batch_size": 8,
        "data__tail": "pad",
        "trainer__accumulate": 2,
        "augment": {"mixup": 0.2},
        "optim__ema_decay": 0.9,
        "checkpoint__keep": 2,
        "model__drop_rate": 0.3,
    },
    "balanced": {
        "data__sampling": "balanced",
        "data__window": 2,
        "data__partitions": 2,
        "data__batch_size": 6,
        "optim__name": "sgd",
        "model__name": "test_vit",
    },
    # Large enough that a checkpoint goes up in parts.
    "large": {"model__name": "mobilenetv3_small_100", "trainer__max_epochs": 2},
}
CACHES: dict[str, Any] = {"roomy": {}, "narrow": {"size": 40_000}, "none": "none"}


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        phase: A key of ``WEIGHTS``.
        call: Of which call of the beginning, or before which system call.
        delay_s: Seconds from the beginning, or the share of a whole run for "clock".
        ranks: Which processes are killed.
    """

    phase: str
    call: int
    delay_s: float
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Round:
    """One run that is killed time and again, and then left alone until it is done.

    Attributes:
        number: From 0.
        data: ``local`` or ``s3``: where the data lies, and where the run goes.
        variant: A key of ``VARIANTS``.
        cache: A key of ``CACHES``.
        cold: Whether the cache is empty at the beginning.
        kills: In this order.
    """

    number: int
    data: str
    variant: str
    cache: str
    cold: bool
    kills: list[Kill] = field(default_factory=list)


def plan_round(seed: int, number: int, data: str, ranks: int) -> Round:
    """Draw a round.

    Args:
        seed: Of the whole.
        number: Of the round, from 0.
        data: ``local``, ``s3`` or ``both``.
        ranks: Processes that train together.
    """
    draw = random.Random(f"{seed}/{number}")
    place = ("s3", "local")[number % 2] if data == "both" else data
    variants = list(VARIANTS) if place == "s3" else [name for name in VARIANTS if name != "large"]
    chosen = Round(
        number=number,
        data=place,
        variant=variants[number // 2 % len(variants)],
        cache=draw.choice(["roomy", "roomy", "narrow", "none"]),
        cold=draw.random() < 0.7,
    )
    phases = {name: weight for name, weight in WEIGHTS.items() if place == "s3" or name != "cache"}
    kills = [
        plan_kill(draw, phase, ranks)
        for phase in draw.choices(list(phases), list(phases.values()), k=draw.randint(5, 12))
    ]
    # Whoever waits for the end has the whole run behind it: what is to hit the middle goes first.
    chosen.kills.extend(sorted(kills, key=lambda kill: kill.phase == "end"))
    return chosen


def plan_kill(draw: random.Random, phase: str, ranks: int) -> Kill:
    """Draw one kill in a phase."""
    delay_s = draw.random() if phase == "clock" else 10 ** draw.uniform(-4, -0.7)
    call = draw.randint(1, LAST_CALLS.get(phase, LAST_SYSTEM_CALL))
    everybody = tuple(range(ranks))
    # Before the ranks have met, none can notice that another is missing: the launcher does.
    alone = phase in ("step", "checkpoint") and draw.random() < 0.5
    return Kill(phase, call, delay_s, (draw.choice(everybody),) if alone else everybody)
