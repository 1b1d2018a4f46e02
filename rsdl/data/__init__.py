"""From raw imagery to batches: packing, the manifest, the sampling plan, reading and augmentation."""
