"""Where the data lies and where runs go: folders, or a bucket of a real Ceph gateway."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from rsdl.data.manifest import load_manifest
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from tests.chaos.plan import CACHES, VARIANTS, Round
from tests.chaos.remains import find_cache_remains, find_remains, find_uploads
from tests.conftest import draw_tree
from tests.integration.ceph.conftest import ACCESS_KEY, SECRET_KEY, Gateway
from tests.integration.conftest import Run, tiny_run

BUCKET = "chaos"


@dataclass(frozen=True)
class Ground:
    """A folder for everything, and a gateway where one is needed.

    Attributes:
        folder: Data set, runs, cache, what the processes say.
        gateway: The gateway; ``None`` where all data is local.
        ranks: Processes that train together.
    """

    folder: Path
    gateway: Gateway | None
    ranks: int

    @property
    def env(self) -> dict[str, str]:
        """What every command is to find in its environment."""
        env = {
            "RSDL_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.folder / "tmp"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.gateway is not None:
            env |= {
                "AWS_ENDPOINT_URL_S3": self.gateway.url,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            }
        return env

    def prepare(self) -> None:
        """Make the data set, here and in the bucket."""
        (self.folder / "tmp").mkdir()
        source = FolderSource(draw_tree(self.folder / "images"), fractions=(0.5, 0.25, 0.25))
        packed = connect(str(self.folder / "packed"))
        pack(source, packed, PackOptions(shard_bytes=14000, num_workers=1))
        if self.gateway is not None:
            self.gateway.boto().create_bucket(Bucket=BUCKET)
            for entry in packed.list():
                connect(f"s3://{BUCKET}/packed").write(entry.name, packed.read(entry.name))

    def write_config(self, name: str, chosen: Round, *, local: bool) -> Path:
        """Write the config of a run; ``local`` leaves the bucket out of it."""
        root = str(self.folder) if local else f"s3://{BUCKET}"
        fields = {
            "model__name": "test_resnet",
            "trainer__devices": self.ranks,
            "checkpoint__every_minutes": 1e-4,
            "data__cache": CACHES["roomy" if local else chosen.cache],
        }
        tree = tiny_run(f"{root}/packed", f"{root}/runs", fields | VARIANTS[chosen.variant])
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    def fetch(self, name: str) -> Run:
        """Return a run; from the bucket, if it is not in the folder."""
        folder = self.folder / "runs" / name
        if not folder.exists():
            store = connect(f"s3://{BUCKET}/runs/{name}")
            for entry in store.list():
                path = folder / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.read(entry.name))
        return Run(folder)

    def find_remains(self) -> list[str]:
        """Return what is left that should not be, now that no process runs."""
        found = list(find_remains(self.folder / "runs"))
        shards = load_manifest(connect(str(self.folder / "packed")), where="chaos").splits.values()
        sha256s = {shard.sha256 for split in shards for shard in split.shards}
        found += find_cache_remains(self.folder / "cache", sha256s)
        if self.gateway is not None:
            found += find_uploads(self.gateway.boto(), BUCKET)
        return found

    def forget(self, name: str) -> None:
        """Remove a run, to make room."""
        shutil.rmtree(self.folder / "runs" / name, ignore_errors=True)
        if self.gateway is not None:
            store = connect(f"s3://{BUCKET}")
            for entry in list(store.list(f"runs/{name}/")):
                store.delete(entry.name)


@contextmanager
def visit(ground: Ground) -> Iterator[Ground]:
    """Let this process see what the commands see, for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in ground.env}
    with ExitStack() as stack:
        for name, value in before.items():
            stack.callback(_set, name, value)
        os.environ.update(ground.env)
        # Our own copies are none of what the commands leave.
        os.environ["RSDL_CACHE"] = str(ground.folder / "own")
        yield ground


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
