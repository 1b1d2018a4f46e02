"""Painters of the ground that objects stand on: water for ships, aprons for planes, lots for cars.

Where something stands in the way (a pier, an island with a tree) the ground is higher than 0, and
no object is placed there.
"""

from collections.abc import Callable

import numpy as np

from rsdl.synthetic.palette import ASPHALT, CONCRETE, SAND, leaves
from rsdl.synthetic.relief import Painting, Site, lattice, lay, mix


def harbour(site: Site) -> Painting:
    """Open water with waves and, in some, a pier."""
    deep = mix((0.07, 0.20, 0.28), (0.20, 0.28, 0.24), site.between(0, 1))
    albedo = site.plain(deep, 0.06, 18.0)
    waves = np.sin(2 * np.pi * (site.v + 2 * site.noise(14, 2)) / site.between(2.2, 4.0))
    albedo *= (1 + 0.07 * waves * (0.5 + site.noise(10, 2)) + 0.05 * site.noise(1.0, 2))[..., None]
    height = np.zeros_like(site.u)
    if site.between(0, 1) < 0.3:
        pier = (np.abs(site.v - site.between(-6, 6)) < site.between(0.8, 1.6)) & (site.u > 4)
        lay(albedo, pier, site.plain(mix(CONCRETE, SAND, 0.4), 0.08, 2.0))
        height[pier] = 1.2
    return albedo, height


def apron(site: Site) -> Painting:
    """Slabs of concrete with joints, oil stains and yellow lines."""
    albedo = site.plain(mix(CONCRETE, (0.70, 0.69, 0.66), site.between(0, 1)), 0.05)
    side = site.between(5, 7.5)
    slabs = lattice(site.u, site.v, side, side)
    albedo *= (1 + 0.06 * (slabs.draw(site.rng)[0] - 0.5))[..., None]
    joint = np.maximum(np.abs(slabs.along), np.abs(slabs.across)) > side / 2 - 0.10
    lay(albedo, joint, (0.38, 0.38, 0.37))
    albedo *= (1 - 0.35 * np.clip(site.noise(5, 3) - 0.35, 0, 1))[..., None]
    line = np.abs(site.v + 6 * np.sin(site.u / 25) - site.between(-8, 8)) < 0.20
    lay(albedo, line, (0.82, 0.68, 0.18))
    return albedo, np.zeros_like(site.u)


def lot(site: Site) -> Painting:
    """A road between paved lots: centre line, kerbs, marked bays, worn asphalt and some trees."""
    albedo = site.plain(mix(ASPHALT, CONCRETE, site.between(0, 0.5)), 0.07)
    height = np.zeros_like(site.u)
    half = site.between(3.2, 4.2)
    middle = np.abs(site.v)
    lay(albedo, middle < half, site.plain(ASPHALT, 0.06))
    dashes = (middle < 0.10) & (np.mod(site.u, 6.0) < 3.0)
    kerb = np.abs(middle - half) < 0.12
    bays = lattice(site.u, middle, site.between(2.8, 3.4), 1e4)
    ruled = (np.abs(bays.along) < 0.09) & (np.mod(middle - half, 13.0) < 5.5) & (middle > half)
    lay(albedo, dashes | kerb | ruled, (0.80, 0.80, 0.77))
    spots = lattice(site.u, site.v, 15.0, 15.0)
    there, off_u, off_v, size = spots.draw(site.rng, 4)
    away = np.hypot(spots.along - 6 * (off_u - 0.5), spots.across - 6 * (off_v - 0.5))
    radius = (1.1 + 1.1 * size) * (1 + 0.2 * site.noise(1.5, 2))
    dome = np.clip(1 - (away / radius) ** 2, 0, 1) * ((there < 0.35) & (middle > half + 2))
    lay(albedo, dome > 0, leaves(site, np.clip(site.noise(2, 2) * 0.3 + 0.5, 0, 1)))
    height += (3.5 * np.sqrt(dome)).astype(np.float32)
    return albedo, height


GROUNDS: dict[str, Callable[[Site], Painting]] = {"apron": apron, "harbour": harbour, "lot": lot}
