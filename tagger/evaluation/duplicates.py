"""Sketches of embeddings -> groups of images that are nearly the same picture: one product under five ids, one placeholder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

# Two images are nearly the same up to this share of the distance between two drawn at random, and up to this share of what three
# quarters of the images have to their nearest neighbour, at most: a model that maps a class to a point would find no others. Of
# 255 among 1,020 photos of clothing that were copied, saved again at JPEG quality 30 or at half their size, all, 97 % and 99 %
# are found; a fifth brighter or cut by 1 % on all sides 15 and 20 %. Of the 519,690 pairs of different photos none is that near.
OF_RANDOM, OF_NEAREST = 0.1, 0.2
SAMPLED = 2000  # images whose nearest neighbour is looked for
# Neighbours are looked for among those that sort together by a random grid; a near pair is missed by all of them rarely.
GRIDS, AXES, CELL, WINDOW = 8, 4, 4.0, 8
AT_ONCE = 1 << 16


def near_duplicates(sketches: NDArray[np.float16]) -> NDArray[np.int64]:
    """Return int64 (N,): the number of each image's group, from 0 by the first image of each; -1 for NaN.

    sketches: float16 (N, S), NaN for a row without an embedding. An image like no other is a group alone. Images are grouped
    that are near each other or linked by others between them. A million take about 20 s.
    """
    groups = np.full(len(sketches), -1, np.int64)
    rows = np.flatnonzero(~np.isnan(sketches).any(1))
    if not len(rows):
        return groups
    different, of_row = np.unique(sketches[rows], axis=0, return_inverse=True)
    points = different.astype(np.float32)
    weights = np.bincount(of_row.reshape(-1))
    centred = points - np.average(points, axis=0, weights=weights).astype(np.float32)
    random = float(np.sqrt(2 * np.average((centred**2).sum(1), weights=weights)))
    radius = min(OF_RANDOM * random, OF_NEAREST * _nearest(centred))
    first, second = _near_pairs(centred, radius)
    links = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(points),) * 2)
    component = connected_components(links, directed=False)[1][of_row.reshape(-1)]
    # Numbered by their first rows, so that the numbers do not depend on how the sketches sort.
    _, begins, inverse = np.unique(component, return_index=True, return_inverse=True)
    groups[rows] = np.argsort(np.argsort(begins))[inverse]
    return groups


def _nearest(points: NDArray[np.float32]) -> float:
    """Return the distance within which three quarters of a sample of the points have another one of it, 0 for a single point."""
    if len(points) < 2:
        return 0.0
    sample = points[np.random.default_rng(0).permutation(len(points))[:SAMPLED]]
    distances, _ = cKDTree(sample).query(sample, k=2)
    return float(np.quantile(distances[:, 1], 0.75))


def _near_pairs(points: NDArray[np.float32], radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of points, int64 (M,) each, not farther apart than `radius`: nearly all that there are (Datar et al. 2004)."""
    rng = np.random.default_rng(0)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for _ in range(GRIDS if radius else 0):
        axes = np.linalg.qr(rng.standard_normal((points.shape[1], AXES + 1)))[0].astype(np.float32)
        placed = points @ axes
        cells = np.floor(placed[:, :AXES] / np.float32(CELL * radius) + rng.random(AXES, np.float32)).astype(np.int32)
        order = np.lexsort((placed[:, AXES], *cells.T))
        for step in range(1, WINDOW + 1):
            found += _within(points, order[:-step], order[step:], radius)
    return np.concatenate([first for first, _ in found]), np.concatenate([second for _, second in found])


def _within(
    points: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64], radius: float
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return those of the pairs that are near, a few at a time."""
    near = []
    for start in range(0, len(first), AT_ONCE):
        one, other = first[start : start + AT_ONCE], second[start : start + AT_ONCE]
        kept = ((points[one] - points[other]) ** 2).sum(1) <= radius**2
        near.append((one[kept], other[kept]))
    return near
