"""A bucket's data set and run belong to one process at a time."""

import hashlib
import subprocess
import sys
from pathlib import Path

from rsdl.data.manifest import load_manifest
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from rsdl.train.owner import own
from tests.unit.data.packing.test_pack import PACK
from tests.unit.train.test_owner import HOLD, hear

FRACTIONS = (0.5, 0.25, 0.25)


def test_of_several_at_once_one_owns_a_run_and_is_followed_when_killed(bucket: str):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, f"{bucket}/run"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [hear(process) for process in processes]
    assert said.count("owns") == 1
    assert sum("is being trained by" in line for line in said) == 2
    for process in processes:
        process.kill()
        process.communicate()
    own(connect(f"{bucket}/run")).release()


def test_a_packing_that_is_overwritten_ends_and_leaves_the_other_whole(
    bucket: str, image_tree: Path
):
    command = [sys.executable, "-c", PACK, str(image_tree), f"{bucket}/set"]
    packer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert packer.stdout is not None and packer.stderr is not None
    for line in packer.stdout:
        if line.strip() == "14":
            break
    store = connect(f"{bucket}/set")
    source = FolderSource(image_tree, fractions=FRACTIONS)
    pack(source, store, PackOptions(shard_bytes=9000, num_workers=2, overwrite=True))
    _, stderr = packer.communicate()
    assert packer.returncode == 1 and "another packing has taken over" in stderr
    for split in load_manifest(store).splits.values():
        for shard in split.shards:
            assert hashlib.sha256(store.read(shard.name)).hexdigest() == shard.sha256
