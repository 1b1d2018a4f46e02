"""The step: what is divided by what, what is frozen, and what is averaged."""

from typing import Any, cast

import pytest
import pytorch_lightning as pl
import timm
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional

from rsdl.config.data import AugmentConfig
from rsdl.config.optim import OptimConfig
from rsdl.config.task import ClassificationConfig
from rsdl.core.batch import Batch
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.augment import Augment
from rsdl.tasks.classification import ClassificationTask
from rsdl.train.checkpoint import Position
from rsdl.train.lightning_private import set_progress
from rsdl.train.module import TrainingModule, average_weights, seed_generators
from rsdl.train.optim import build_optimizer, is_fused

NUM_CLASSES = 3


def build(
    name: str = "test_vit", *, accumulate: int = 1, optim: OptimConfig | None = None
) -> TrainingModule:
    """Return a module of a tiny network, attached to a trainer."""
    torch.manual_seed(0)
    sizes: Any = {"img_size": 32} if "vit" in name else {}
    network = timm.create_model(name, num_classes=NUM_CLASSES, **sizes)
    augment = Augment(AugmentConfig(), [100.0] * 3, [50.0] * 3, "uint8")
    task = ClassificationTask(ClassificationConfig(label_smoothing=0.1), "abc")
    module = TrainingModule(network, task, augment, optim or OptimConfig(), seed=0)
    module.trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return module


def make_batch(size: int, *, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randint(256, (size, 32, 32, 3), generator=random, dtype=torch.uint8),
        targets=torch.randint(NUM_CLASSES, (size,), generator=random),
        valid=torch.ones(size, dtype=torch.bool),
        samples=torch.arange(size),
        uniforms=torch.rand(size, 12, generator=random),
        windows=torch.zeros(size, 4, dtype=torch.int32),
        sizes=torch.zeros(size, 2, dtype=torch.int32),
        num_planned=size,
        counts=SampleCounts(),
    )


def cut(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch as a micro-batch; the global batch stays what it was."""
    return Batch(
        images=batch.images[rows],
        targets=batch.targets[rows],
        valid=batch.valid[rows],
        samples=batch.samples[rows],
        uniforms=batch.uniforms[rows],
        windows=batch.windows[rows],
        sizes=batch.sizes[rows],
        num_planned=batch.num_planned,
        counts=SampleCounts(),
    )


def gradients(module: TrainingModule, *batches: Batch) -> list[torch.Tensor]:
    """Return the gradients that Lightning would hand to the optimizer."""
    module.model.train()
    module.zero_grad()
    for number, batch in enumerate(batches):
        # Lightning divides by the accumulation steps.
        (module.training_step(batch, number) / len(batches)).backward()
    return [parameter.grad.clone() for parameter in module.model.parameters()]


def test_accumulated_gradients_are_those_of_the_whole_batch():
    batch = make_batch(8)
    whole = gradients(build(), batch)
    halves = gradients(build(accumulate=2), cut(batch, slice(0, 4)), cut(batch, slice(4, 8)))
    for one, two in zip(whole, halves, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)


def test_padding_and_skipped_rows_change_no_gradient():
    full = make_batch(8)
    alone = cut(full, slice(0, 5))
    alone = Batch(**{f: getattr(alone, f) for f in Batch.__dataclass_fields__} | {"num_planned": 5})
    padded = cut(full, slice(0, 8))
    padded.valid[5:] = False
    padded = Batch(
        **{f: getattr(padded, f) for f in Batch.__dataclass_fields__} | {"num_planned": 5}
    )
    for one, two in zip(gradients(build(), alone), gradients(build(), padded), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)
    # The tail of an epoch in two micro-batches, the second of which is padding in part.
    first, second = cut(padded, slice(0, 4)), cut(padded, slice(4, 8))
    halves = gradients(build(accumulate=2), first, second)
    for one, two in zip(gradients(build(), alone), halves, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_batch_without_any_row_that_counts_has_no_gradient():
    batch = make_batch(4)
    batch.valid[:] = False
    assert all(not gradient.any() for gradient in gradients(build(), batch))


def test_losses_are_summed_over_rows_that_count():
    module, batch = build(), make_batch(6)
    batch.valid[4:] = False
    loss = module.training_step(batch, 0)
    total, rows = module.train_sums.tolist()
    assert rows == 4
    assert total / batch.num_planned == pytest.approx(loss.item(), rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step():
    module, batch = build("test_efficientnet"), make_batch(4)
    cast(Any, module.model).drop_rate = 0.5
    module.model.train()
    # Batch norm's running averages do not act in training.
    first, other = module.training_step(batch, 0), module.training_step(batch, 0)
    assert torch.equal(first, other)
    module.seed = 1
    assert not torch.equal(first, module.training_step(batch, 0))


@pytest.mark.parametrize(("rank", "micro"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_dropout_of_a_part_does_not_depend_on_who_computes_it(rank: int, micro: int):
    def draw(rank: int, accumulate: int, micro: int) -> torch.Tensor:
        module = build(accumulate=accumulate)
        cast(Any, module.trainer.strategy).global_rank = rank
        module._seed_step(micro)
        return torch.rand(4)

    whole = [draw(0, 4, part) for part in range(4)]  # one rank, four micro-batches
    assert torch.equal(draw(rank, 2, micro), whole[2 * rank + micro])
    assert len({tuple(part.tolist()) for part in whole}) == 4


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_a_frozen_backbone_stays_and_thaws(name: str):
    module = build(name, optim=OptimConfig(freeze_epochs=1, warmup_epochs=0, lr=0.1))
    optimizer = module.configure_optimizers()["optimizer"]
    head = {id(parameter) for parameter in module.model.get_classifier().parameters()}

    def step() -> tuple[bool, bool, bool]:
        """Return whether the head, the backbone and the batch norms' statistics moved."""
        before = {key: value.clone() for key, value in module.model.state_dict().items()}
        ours = {key for key, p in module.model.named_parameters() if id(p) in head}
        module.training_step(make_batch(4), 0).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        after = module.model.state_dict()
        moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
        running = {key for key in moved if "running" in key or "num_batches" in key}
        return bool(moved & ours), bool(moved - ours - running), bool(running)

    module.on_train_epoch_start()
    assert step() == (True, False, False)
    set_progress(module.trainer, Position(epoch=1))
    module.on_train_epoch_start()
    assert step() == (True, True, name == "test_efficientnet")


def test_the_average_follows_the_weights_and_is_what_is_evaluated():
    network = nn.Linear(2, 2)
    averaged = average_weights(network, 0.5)
    assert average_weights(network, None) is None
    before = averaged.module.weight.clone()
    with torch.no_grad():
        network.weight += 1
    averaged.update(network, step=1000)
    assert torch.allclose(averaged.module.weight, before + 0.5)

    module = build(optim=OptimConfig(ema_decay=0.9))
    module.eval()
    images = torch.randn(2, 3, 32, 32)
    same = module(images)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.zero_()
    assert torch.equal(module(images), same)
    assert not any(p.requires_grad for p in module.averaged.parameters())


def test_the_logged_rate_is_that_of_the_head_beside_the_range_over_all_layers():
    optim = OptimConfig(lr=0.5, layer_decay=0.5, warmup_epochs=0)
    module = build(optim=optim)
    groups = build_optimizer(optim, module.model).param_groups
    for group in groups:
        group["lr"] = 0.5 * group["lr_scale"]
    module.trainer.strategy.optimizers = [torch.optim.SGD(groups, lr=1.0)]
    scales = [group["lr_scale"] for group in groups]
    assert min(scales) < 0.1 and groups[0]["lr_scale"] == min(scales)
    rates = {"lr": 0.5, "lr_min": 0.5 * min(scales), "lr_max": 0.5}
    assert module.learning_rates() == pytest.approx(rates)


def test_tta_scores_do_not_depend_on_how_the_image_is_turned():
    module = build("test_efficientnet")
    module.eval()
    module.tta = True
    batch = make_batch(4)
    turned = cut(batch, slice(0, 4))
    turned.images[:] = torch.rot90(batch.images, 1, (1, 2)).clone()
    with torch.no_grad():
        _, one = module.predict_batch(make_batch(4))
        _, two = module.predict_batch(turned)
    assert torch.allclose(one, two, atol=1e-6)
    assert torch.allclose(one.sum(1), torch.ones(4))


def test_views_made_one_by_one_give_the_scores_of_all_at_once():
    module = build("test_efficientnet")
    module.eval()
    module.tta = True
    batch = make_batch(4)
    with torch.inference_mode():
        outputs, probabilities = module.predict_batch(batch)
        images, _ = module.augment(batch, training=False)
        views = [
            view
            for turned in (images, images.transpose(2, 3))
            for view in (turned, turned.flip(2), turned.flip(3), turned.flip(2, 3))
        ]
        each = [module.task.predict(module(view)) for view in views]
        expected = torch.stack(each).mean(0)
    assert torch.equal(probabilities, expected)
    assert torch.equal(outputs, expected.clamp_min(1e-12).log())


def test_no_gradient_is_held_while_validating():
    module = build("test_efficientnet")
    module.training_step(make_batch(4), 0).backward()
    assert any(parameter.grad is not None for parameter in module.model.parameters())
    module.on_validation_start()
    assert all(parameter.grad is None for parameter in module.model.parameters())


def test_scores_do_not_depend_on_the_batch_of_evaluation():
    module = build("test_efficientnet")
    module.eval()
    batch = make_batch(8)
    with torch.inference_mode():
        _, whole = module.predict_batch(batch)
        parts = [module.predict_batch(cut(batch, slice(k, k + 2)))[1] for k in range(0, 8, 2)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)
    assert torch.equal(torch.cat(parts).argmax(1), whole.argmax(1))


@pytest.mark.parametrize("seed", [0, 12345, (1 << 63) - 1])
def test_a_step_is_seeded_as_torch_would_seed_it(seed: int) -> None:
    torch.manual_seed(seed)
    expected = torch.rand(5), functional.dropout(torch.ones(50))
    seed_generators(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected[0])
    assert torch.equal(functional.dropout(torch.ones(50)), expected[1])


@pytest.mark.gpu
def test_a_step_on_a_gpu_is_seeded_as_torch_would_seed_it() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    torch.manual_seed(7)
    expected = torch.rand(5, device=device)
    seed_generators(7, device)
    assert torch.equal(torch.rand(5, device=device), expected)


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_a_fused_optimizers_gradients_are_clipped_as_any_others(limit: float):
    """Lightning refuses to under mixed precision."""
    clipped = []
    for fused in (False, True):
        module = build()
        module.trainer.strategy.precision_plugin = MixedPrecision("bf16-mixed", "cpu")
        module.trainer.strategy._lightning_module = module
        optimizer = build_optimizer(module.optim_config, module.model, fused=fused)
        gradients(module, make_batch(4))
        module.configure_gradient_clipping(optimizer, limit, "norm")
        clipped.append(torch.cat([p.grad.flatten() for p in module.model.parameters()]))
    assert torch.equal(*clipped)
    assert (clipped[0].norm() <= 0.0101) == (limit < 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("clip", [None, 1.0])
def test_on_a_gpu_weights_are_updated_in_one_kernel(clip: float | None):
    module = build()
    module.trainer = pl.Trainer(
        accelerator="gpu", devices=1, precision="bf16-mixed", max_steps=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, gradient_clip_val=clip,
    )  # fmt: skip
    module.trainer.fit(module, [make_batch(4) for _ in range(3)])
    assert is_fused(module.trainer.optimizers[0])
    assert module.trainer.global_step == 3
