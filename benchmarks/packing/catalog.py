"""Packers and tilers by name: their modules, requirements, and the documentation they follow."""

from benchmarks.harness.worker_process import Peer, our_peer

MODULES = "benchmarks.packing.peers"
MDS = (
    f"{MODULES}.pack_mds",
    ("mosaicml-streaming", "pillow"),
    "https://docs.mosaicml.com/projects/streaming/en/stable/preparing_datasets/"
    "parallel_dataset_conversion.html",
)
PACKERS: dict[str, Peer] = {
    "rsdl data pack, --decode sample": our_peer(f"{MODULES}.pack_ours", sampled=True),
    "rsdl data pack": our_peer(f"{MODULES}.pack_ours"),
    "decoder alone": our_peer("benchmarks.loader.peers.decoder"),
    "MosaicML MDSWriter": Peer(*MDS),
    "MosaicML MDSWriter, SHA-256": Peer(*MDS, arguments={"hashed": True}),
    "LitData optimize": Peer(
        f"{MODULES}.pack_litdata",
        ("litdata",),
        "https://github.com/Lightning-AI/litData/blob/main/README.md",
    ),
    "webdataset ShardWriter": Peer(
        f"{MODULES}.pack_webdataset",
        ("webdataset",),
        "https://github.com/webdataset/webdataset/blob/main/README.md",
    ),
}
MASK_PACKERS: dict[str, Peer] = {
    "rsdl data pack": our_peer(f"{MODULES}.pack_ours"),
    "rsdl data pack masks": our_peer(f"{MODULES}.pack_masks"),
}
WINDOWS_DOCS = "https://rasterio.readthedocs.io/en/stable/topics/windowed-rw.html"
TILERS: dict[str, Peer] = {
    "rsdl data pack geotiff": our_peer(f"{MODULES}.tile_ours"),
    "rasterio windows, saved": our_peer(f"{MODULES}.tile_rasterio", WINDOWS_DOCS, save=True),
    "rasterio windows, dropped": our_peer(f"{MODULES}.tile_rasterio", WINDOWS_DOCS),
}
