"""From raw imagery to batches: packing, manifest, sampling plan, reading, augmentation."""
