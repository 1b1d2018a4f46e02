"""The published datasets by their names on the command line."""

from rsdl.data.sources.aid import AID
from rsdl.data.sources.eurosat import EUROSAT
from rsdl.data.sources.published import PublishedDataset
from rsdl.data.sources.resisc45 import RESISC45
from rsdl.data.sources.ucm import UCM

DATASETS: dict[str, PublishedDataset] = {
    dataset.name: dataset for dataset in (UCM, AID, RESISC45, EUROSAT)
}
