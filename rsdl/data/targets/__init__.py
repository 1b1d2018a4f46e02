"""The kinds of targets that a data set can have; a manifest names one of them."""

from rsdl.data.targets.base import TargetKind
from rsdl.data.targets.class_index import ClassIndex
from rsdl.data.targets.mask import Mask
from rsdl.data.targets.objects import ObjectList

KINDS: dict[str, TargetKind] = {kind.name: kind for kind in (ClassIndex(), Mask(), ObjectList())}
