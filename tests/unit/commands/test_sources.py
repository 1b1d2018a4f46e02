import pytest
from typer.testing import CliRunner

from rsdl.cli import app
from rsdl.commands.data import pack_geotiff
from rsdl.core.errors import ConfigError
from rsdl.data.packing.pack import PackOptions
from rsdl.data.sources.geotiff_options import GeotiffOptions


def test_a_source_in_a_bucket_is_refused_before_anything_is_read():
    result = CliRunner().invoke(app, ["data", "pack", "folder", "s3://b/x", "--out", "unused"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith('SRC: "s3://b/x" is no local path; copy it here first')
    for scene, labels, where in (
        ("s3://b/a.tif", "labels.geojson", "SCENES"),
        ("a.tif", "s3://b/labels.geojson", "--labels"),
    ):
        with pytest.raises(ConfigError, match=f'^{where}: "s3://b/[a-z.]+" is no local path'):
            pack_geotiff(
                GeotiffOptions(scenes=(scene,), labels=labels), out="unused", options=PackOptions()
            )
