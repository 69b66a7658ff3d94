"""Grey level size zone matrix: the connected zones of one level (IBSI 9SAK; Thibault et al. 2014)."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csgraph

from .definitions import Definition
from .discretisation import GreyLevels, Offset, opposite
from .emphasis import emphases

FEATURES = {
    "GrayLevelNonUniformity": Definition("grey level non-uniformity", "JNSA", emphasis="level non-uniformity"),
    "GrayLevelNonUniformityNormalized": Definition(
        "normalised grey level non-uniformity", "Y1RO", emphasis="level non-uniformity normalised"
    ),
    "GrayLevelVariance": Definition("grey level variance", "BYLV", emphasis="level variance"),
    "HighGrayLevelZoneEmphasis": Definition("high grey level zone emphasis", "5GN9", emphasis="high"),
    "LargeAreaEmphasis": Definition("large zone emphasis", "48P8", emphasis="large"),
    "LargeAreaHighGrayLevelEmphasis": Definition("large zone high grey level emphasis", "J17V", emphasis="large high"),
    "LargeAreaLowGrayLevelEmphasis": Definition("large zone low grey level emphasis", "YH51", emphasis="large low"),
    "LowGrayLevelZoneEmphasis": Definition("low grey level zone emphasis", "XMSY", emphasis="low"),
    "SizeZoneNonUniformity": Definition("zone size non-uniformity", "4JP3", emphasis="size non-uniformity"),
    "SizeZoneNonUniformityNormalized": Definition(
        "normalised zone size non-uniformity", "VB3A", emphasis="size non-uniformity normalised"
    ),
    "SmallAreaEmphasis": Definition("small zone emphasis", "5QRC", emphasis="small"),
    "SmallAreaHighGrayLevelEmphasis": Definition("small zone high grey level emphasis", "HW1V", emphasis="small high"),
    "SmallAreaLowGrayLevelEmphasis": Definition("small zone low grey level emphasis", "5RAI", emphasis="small low"),
    "ZoneEntropy": Definition("zone size entropy", "GU8N", "bit", emphasis="entropy"),
    "ZonePercentage": Definition("zone percentage", "P30P", emphasis="percentage"),
    "ZoneVariance": Definition("zone size variance", "3NSA", emphasis="size variance"),
}

ALONG_X: Offset = (0, 0, 1)


def zones(grey: GreyLevels, offsets: list[Offset]) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the grey level and number of voxels of each zone; neighbours are those at `offsets` and their opposites.

    Voxels are first joined to runs along x; then runs that touch at the same level are joined to zones.
    """
    starts = np.ones(len(grey), bool)
    if ALONG_X in offsets:
        starts = grey.neighbours(opposite(ALONG_X)) != grey.rank
    run = np.cumsum(starts, dtype=np.int32) - 1
    number = np.zeros(grey.box.size, np.int32)
    number[grey.inside] = np.arange(len(grey), dtype=np.int32)
    pairs = []
    for offset in offsets:
        if offset == ALONG_X:
            continue
        here = np.flatnonzero(grey.neighbours(offset) == grey.rank)
        there = number[grey.inside[here] + grey.step(offset)]
        # Two runs touch first where one of them starts; their other contacts add nothing.
        first = starts[here] | starts[there]
        pairs.append(np.stack([run[here[first]], run[there[first]]]))
    count = int(run[-1]) + 1
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int32)
    touching = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    zone_count, zone = csgraph.connected_components(touching, directed=False)
    size = np.bincount(zone[run], minlength=zone_count)
    rank = np.zeros(zone_count, grey.rank.dtype)
    rank[zone] = grey.rank[starts]
    return rank, size


def features(grey: GreyLevels, offsets: list[Offset]) -> dict[str, float]:
    """The 16 features of the structure's zones."""
    rank, size = zones(grey, offsets)
    width = len(grey) + 1
    cell, count = np.unique(rank.astype(np.int64) * width + size, return_counts=True)
    found = emphases(grey.present[cell // width - 1], cell % width, count)
    return {name: float(found[definition.emphasis]) for name, definition in FEATURES.items()}
