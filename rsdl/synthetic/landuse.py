"""Painters of land use: each takes a site and returns its albedo and its height in metres.

The classes differ in shape and not in colour: desert and beach share sand; forest, orchard and
farmland share green; car parks, streets and roofs share grey; and season, soil and paint vary
within each class.
"""

from collections.abc import Callable

import numpy as np

from rsdl.synthetic.builtup import dense_residential, industrial, parking, solar_farm
from rsdl.synthetic.palette import CLOTHS, CONCRETE, CROPS, SAND, leaves, pick
from rsdl.synthetic.relief import Painting, Site, crowns, lattice, lay, mix


def forest(site: Site) -> Painting:
    """Irregular tree crowns that touch, with dark gaps."""
    pitch = site.between(4.5, 7.0)
    dome, number = crowns(site, pitch, (0.55 * pitch, 0.95 * pitch))
    albedo = site.plain((0.13, 0.15, 0.08))
    foliage = leaves(site, number)
    lay(albedo, dome > 0, foliage)
    height = (7 + 5 * number) * dome + 0.8 * site.noise(1.2, 2) * (dome > 0)
    return albedo, height.astype(np.float32)


def farmland(site: Site) -> Painting:
    """Long narrow fields of different crops in drill rows, some with a hedge between."""
    width = site.between(11, 19)
    fields = lattice(site.u, site.v + 1.2 * site.noise(40, 1), 1e4, width)
    crop, hedge, drill = fields.draw(site.rng, 3)
    soil = mix((0.42, 0.31, 0.21), (0.60, 0.50, 0.36), site.dryness)
    albedo = site.plain(soil, 0.05)
    plants = pick(CROPS, crop) * (1 + 0.12 * site.noise(9, 3))[..., None]
    pitch = 1.3 + 1.2 * np.floor(drill * 3) / 3
    rows = 0.5 + 0.5 * np.sin(2 * np.pi * fields.across / pitch)
    cover = np.clip(0.45 + 0.45 * rows + 0.25 * site.noise(6, 2), 0, 1)[..., None]
    albedo = albedo * (1 - cover) + plants * cover
    # A tractor leaves two wheel tracks down the middle of each field.
    tracks = np.abs(np.abs(fields.across) - 0.9) < 0.28
    lay(albedo, tracks, site.plain(soil, 0.04))
    height = (0.25 * rows * cover[..., 0]).astype(np.float32)
    edge = width / 2 - np.abs(fields.across)
    grown = (edge < 1.1 + 0.5 * site.noise(4, 2)) & (hedge < 0.6)
    lay(albedo, grown, leaves(site, site.noise(3, 2) * 0.5 + 0.5))
    height[grown] = 2.2 + 0.6 * site.noise(1.5, 2)[grown]
    return albedo.astype(np.float32), height


def orchard(site: Site) -> Painting:
    """Round trees of one size on a regular grid, in mown grass or tilled soil."""
    pitch_u, pitch_v = site.between(4.6, 5.6), site.between(5.2, 6.6)
    grid = lattice(site.u, site.v, pitch_u, pitch_v)
    size, tone, missing = grid.draw(site.rng, 3)
    soil = site.plain(mix((0.46, 0.35, 0.24), (0.66, 0.55, 0.40), site.dryness), 0.06)
    albedo = site.grass()
    tilled = np.abs(grid.across) < (1.0 if site.between(0, 1) < 0.5 else pitch_v)
    lay(albedo, tilled, soil)
    radius = (0.34 + 0.07 * size) * pitch_u * (1 + 0.12 * site.noise(1.4, 2))
    dome = np.clip(1 - (grid.along**2 + grid.across**2) / radius**2, 0, 1)
    dome[missing < 0.03] = 0
    lay(albedo, dome > 0, leaves(site, 0.4 + 0.3 * tone))
    return albedo, (3.4 * np.sqrt(dome)).astype(np.float32)


def river(site: Site) -> Painting:
    """Calm water with winding banks: gravel at the edge, then grass and bushes."""
    half = min(site.u.shape) * site.pixel_m / 2
    phase, length = site.between(0, 6.3), site.between(50, 80)
    middle = 0.14 * half * np.sin(2 * np.pi * site.u / length + phase) + 1.5 * site.noise(12, 2)
    inside = site.between(0.46, 0.60) * half - np.abs(site.v - middle)
    albedo = site.grass()
    dome, number = crowns(site, 5.0, (1.0, 2.6), 0.5)
    bush = (dome > 0) & (inside < -2.5)
    lay(albedo, bush, leaves(site, number))
    height = (3.5 * dome * bush).astype(np.float32)
    gravel = (inside > -1.8 - 0.8 * site.noise(5, 2)) & (inside <= 0)
    lay(albedo, gravel, site.plain(mix(SAND, CONCRETE, 0.5), 0.10))
    height[gravel] = 0
    deep = mix((0.10, 0.22, 0.24), (0.26, 0.28, 0.20), site.between(0, 1))
    shoal = np.clip(inside / 7, 0, 1)[..., None]
    streaks = 1 + 0.05 * site.noise(6, 3) + 0.04 * np.sin(site.v * 2 + 4 * site.noise(15, 2))
    shallow = np.asarray(mix(deep, SAND, 0.45), np.float32)
    water = (shallow * (1 - shoal) + np.asarray(deep, np.float32) * shoal) * streaks[..., None]
    lay(albedo, inside > 0, water)
    height[inside > 0] = 0
    return albedo, height


def beach(site: Site) -> Painting:
    """Sand with sunshades, a wet edge, and sea with parallel lines of surf."""
    shore = site.v + 2.5 * site.noise(25, 2) + site.between(-4, 4)
    albedo = site.plain(mix(SAND, (0.86, 0.81, 0.70), site.between(0, 1)), 0.07, 4.0)
    height = (0.08 * site.noise(1.5, 2)).astype(np.float32)
    shades = lattice(site.u, shore, 5.0, 5.0)
    there, colour, off_u, off_v = shades.draw(site.rng, 4)
    away = np.hypot(shades.along - 2 * (off_u - 0.5), shades.across - 2 * (off_v - 0.5))
    dry = (shore < -4) & (there < 0.55)
    lay(albedo, dry & (away < 1.25), pick(CLOTHS, colour))
    height[dry & (away < 1.25)] = 2.2
    towel = (np.abs(shades.along - 1.6) < 0.4) & (np.abs(shades.across) < 0.9)
    lay(albedo, dry & towel & (away > 1.3), pick(CLOTHS, 1 - colour))
    wet = np.clip((shore + 3.0) / 3.0, 0, 1)[..., None] * (shore < 0)[..., None]
    albedo *= 1 - 0.35 * wet
    depth = np.clip(shore / 25, 0, 1)[..., None]
    shallow = np.array([0.38, 0.62, 0.60], np.float32)
    open_sea = np.asarray(
        mix((0.06, 0.26, 0.38), (0.12, 0.34, 0.36), site.between(0, 1)), np.float32
    )
    sea = (shallow * (1 - depth) + open_sea * depth) * (1 + 0.06 * site.noise(3, 3))[..., None]
    lay(albedo, shore > 0, sea)
    height[shore > 0] = 0
    rank = np.mod(shore + 1.6 * site.noise(14, 2), site.between(6.5, 8.5))
    foam = (rank < 1.5 + 1.1 * site.noise(5, 3)) & (shore > -0.5)
    lay(albedo, foam, site.plain((0.90, 0.93, 0.94), 0.05))
    return albedo, height


def desert(site: Site) -> Painting:
    """Parallel dunes with ripples between, and few shrubs."""
    colour = mix(SAND, (0.78, 0.52, 0.33), site.between(0, 1))
    albedo = site.plain(colour, 0.05, 20.0)
    length = site.between(11, 17)
    along = site.u + 5 * site.noise(30, 2)
    phase = np.mod(along / length, 1.0)
    # Dunes rise slowly against the wind and fall steeply behind.
    dune = np.where(phase < 0.72, phase / 0.72, (1 - phase) / 0.28)
    ripple = np.sin(2 * np.pi * (along + 1.2 * site.noise(8, 2)) / 1.7)
    height = 2.6 * dune * (0.75 + 0.4 * site.noise(25, 1)) + 0.09 * ripple
    dome, number = crowns(site, 8.0, (0.3, 0.9), 0.10)
    lay(albedo, dome > 0, (0.36, 0.36, 0.22))
    return albedo, (height + 0.7 * dome * (1 + number)).astype(np.float32)


PAINTERS: dict[str, Callable[[Site], Painting]] = {
    "beach": beach,
    "dense_residential": dense_residential,
    "desert": desert,
    "farmland": farmland,
    "forest": forest,
    "industrial": industrial,
    "orchard": orchard,
    "parking": parking,
    "river": river,
    "solar_farm": solar_farm,
}
