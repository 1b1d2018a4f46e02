import pytest

from rsdl.commands.data import pack_folder, pack_geotiff
from rsdl.core.errors import ConfigError
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sources.geotiff import GeotiffOptions


def test_a_source_in_a_bucket_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match=r'^SRC: "s3://b/x" is no local path; copy it here first'):
        pack_folder(
            "s3://b/x", out="unused", name=None, fractions=(0.8, 0.1, 0.1), seed=0,
            options=PackOptions(),
        )  # fmt: skip
    for scene, labels, where in (
        ("s3://b/a.tif", "labels.geojson", "SCENES"),
        ("a.tif", "s3://b/labels.geojson", "--labels"),
    ):
        with pytest.raises(ConfigError, match=f'^{where}: "s3://b/[a-z.]+" is no local path'):
            pack_geotiff(
                GeotiffOptions(scenes=(scene,), labels=labels), out="unused", options=PackOptions()
            )
