"""NVIDIA DALI on the CPU, after its ResNet-50 example, with ``device_id=None``."""

from typing import Any

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIClassificationIterator

from benchmarks.harness.task import Counter, Task, Workload


@pipeline_def  # type: ignore[untyped-decorator]
def training_pipeline(task: Task) -> tuple[Any, Any]:
    """Decode only the crop, resize it, and deliver."""
    encoded, labels = fn.readers.file(
        file_root=task.images, random_shuffle=True, pad_last_batch=False, name="reader"
    )
    images = fn.decoders.image_random_crop(
        encoded,
        device="cpu",
        output_type=types.RGB,
        random_area=list(task.scale),
        random_aspect_ratio=list(task.ratio),
        num_attempts=100,
    )
    images = fn.resize(
        images,
        resize_x=task.image_size,
        resize_y=task.image_size,
        interp_type=types.INTERP_TRIANGULAR,
    )
    if task.delivery == "float32":
        images = fn.crop_mirror_normalize(
            images,
            dtype=types.FLOAT,
            output_layout="CHW",
            mean=list(task.mean),
            std=list(task.std),
        )
    return images, labels


def build(task: Task) -> Workload:
    """Return the loader."""
    pipeline = training_pipeline(
        task,
        batch_size=task.batch_size,
        num_threads=task.workers,
        device_id=None,
        seed=task.seed,
    )
    pipeline.build()
    loader = DALIClassificationIterator(
        pipeline, reader_name="reader", last_batch_policy=LastBatchPolicy.DROP, auto_reset=True
    )

    def run_epoch(take: Counter) -> None:
        for batch in loader:
            images = batch[0]["data"]
            if task.delivery == "uint8":
                # [B, H, W, C] -> [B, C, H, W], the same memory
                images = images.permute(0, 3, 1, 2)
            take(images, batch[0]["label"].squeeze(-1))

    return Workload(run_epoch, note="threads; decodes the crop only")
