"""Painters of built-up land: roofs, streets, cars and panels, all drawn from lattices."""

import numpy as np

from rsdl.synthetic.palette import (
    ASPHALT,
    CARS,
    CLOTHS,
    CONCRETE,
    SAND,
    SHEETS,
    TILES,
    leaves,
    pick,
)
from rsdl.synthetic.relief import (
    Lattice,
    Mask,
    Painting,
    Site,
    crowns,
    lattice,
    lay,
    mix,
)


def dense_residential(site: Site) -> Painting:
    """Small gabled roofs in rows along streets, with gardens, trees and parked cars."""
    lot, depth, street = site.between(10.5, 12.5), site.between(12, 14), site.between(5.0, 6.5)
    blocks = lattice(site.u, site.v, 1e4, 2 * depth + street)
    from_street = np.abs(np.abs(blocks.across) - depth - street / 2)
    albedo = site.grass()
    dome, number = crowns(site, 7.0, (1.2, 2.4), 0.45)
    lay(albedo, dome > 0, leaves(site, number))
    height = (4.5 * dome).astype(np.float32)
    lots = lattice(site.u, blocks.across, lot, depth)
    kind, long_side, deep_side, back, paint = lots.draw(site.rng, 5)
    half_u, half_v = 0.34 * lot + 0.10 * lot * long_side, 3.4 + 0.9 * deep_side
    away = (from_street - street / 2) - (depth - street / 2) * (0.36 + 0.10 * back)
    roof = (np.abs(lots.along) < half_u) & (np.abs(away) < half_v)
    # The ridge runs along the street on most houses and across it on the others.
    fall = np.where(kind < 0.7, np.abs(away) / half_v, np.abs(lots.along) / half_u)
    lay(albedo, roof, pick(TILES, paint) * (1 + 0.08 * site.noise(0.8, 1))[..., None])
    height[roof] = (7.5 - 3.0 * fall)[roof]
    drive = (np.abs(lots.along - 0.42 * lot) < 0.9) & (away < half_v) & ~roof
    lay(albedo, drive, site.plain(CONCRETE, 0.04))
    height[drive] = 0
    road = from_street < street / 2
    walk = (from_street < street / 2 + 1.1) & ~road
    lay(albedo, walk, site.plain((0.62, 0.60, 0.57), 0.04))
    lay(albedo, road, site.plain(ASPHALT, 0.05))
    height[road | walk] = 0
    curb = street / 2 - from_street
    far_side = np.where(blocks.across > 0, np.float32(31), np.float32(0))
    kerbside = lattice(site.u + far_side, curb, 6.0, 2.0)
    _park(site, (albedo, height), kerbside, (2.1, 0.85), road & (curb < 2.0), 0.45)
    return albedo, height


def industrial(site: Site) -> Painting:
    """Large flat sheet-metal roofs with ribs, skylights and vents; yards with trucks between."""
    long, wide, yard = site.between(34, 46), site.between(22, 30), site.between(8, 11)
    halls = lattice(site.u, site.v, long + yard, wide + yard)
    paint, skylight, rise = halls.draw(site.rng, 3)
    albedo = site.plain(CONCRETE, 0.06)
    height = np.zeros_like(site.u)
    trucks = lattice(site.u, site.v, 4.2, 13.0)
    there, colour = trucks.draw(site.rng, 2)
    truck = (np.abs(trucks.along) < 1.3) & (np.abs(trucks.across) < 5.2) & (there < 0.5)
    lay(albedo, truck, pick(CARS + CLOTHS, colour))
    height[truck] = 3.2
    roof = (np.abs(halls.along) < long / 2) & (np.abs(halls.across) < wide / 2)
    ribs = 1 + 0.05 * np.sign(np.sin(2 * np.pi * halls.along / 1.6))
    stains = 1 + 0.07 * site.noise(7, 3)
    lay(albedo, roof, pick(SHEETS, paint) * (ribs * stains)[..., None])
    height[roof] = (8 + 3 * rise)[roof]
    inner = roof & (np.abs(halls.across) < wide / 2 - 1.5)
    strips = np.abs(np.mod(halls.along, 9.0) - 4.5) < 0.7
    lay(albedo, inner & strips & (skylight < 0.7), (0.88, 0.92, 0.94))
    vents = lattice(halls.along, halls.across, 7.3, 6.1)
    vent_there, vent_size = vents.draw(site.rng, 2)
    half = 0.6 + 0.8 * vent_size
    boxes = (np.abs(vents.along) < half) & (np.abs(vents.across) < half) & (vent_there < 0.45)
    lay(albedo, inner & boxes, (0.72, 0.72, 0.70))
    height[inner & boxes] += 1.6
    rim = roof & ~((np.abs(halls.along) < long / 2 - 0.6) & (np.abs(halls.across) < wide / 2 - 0.6))
    height[rim] += 0.6
    return albedo, height


def parking(site: Site) -> Painting:
    """Facing rows of cars in marked bays, aisles between, a few trees on islands."""
    bay, length, aisle = 2.6, 5.0, site.between(5.5, 6.5)
    rows = lattice(site.u, site.v, 1e4, 2 * length + aisle)
    deep = length - np.abs(rows.across)
    ground = mix(ASPHALT, CONCRETE, site.between(0, 0.6))
    albedo, height = site.plain(ground, 0.06), np.zeros_like(site.u)
    bays = lattice(site.u, rows.across, bay, length)
    paint = (np.abs(np.abs(bays.along) - bay / 2) < 0.13) & (deep > 0)
    paint |= (np.abs(deep - length) < 0.13) & (deep > 0)
    lay(albedo, paint, (0.82, 0.82, 0.80))
    _park(site, (albedo, height), bays, (0.88, 2.15), deep > 0, site.between(0.6, 0.95))
    islands = lattice(site.u, rows.across, bay * 9, 2 * length + aisle)
    island = (np.abs(islands.along) < bay / 2) & (deep > 0.4)
    lay(albedo, island, site.grass())
    height[island] = 0
    tree_v = np.mod(rows.across + length, length) - length / 2
    tree = np.clip(1 - (islands.along**2 + tree_v**2) / 1.7**2, 0, 1) * island
    lay(albedo, tree > 0, leaves(site, site.noise(2, 2) * 0.3 + 0.5))
    return albedo, np.maximum(height, 3.5 * np.sqrt(tree)).astype(np.float32)


def solar_farm(site: Site) -> Painting:
    """Long rows of dark tilted panels, module by module, over grass or gravel."""
    pitch, panel = site.between(5.6, 7.0), site.between(3.2, 3.9)
    rows = lattice(site.u, site.v, site.between(38, 55), pitch)
    gravel = site.between(0, 1) < 0.4
    albedo = site.plain(mix(SAND, CONCRETE, 0.6), 0.07) if gravel else site.grass()
    table = (np.abs(rows.across) < panel / 2) & (np.abs(rows.along) < 18)
    glass = mix((0.07, 0.10, 0.22), (0.13, 0.15, 0.20), site.between(0, 1))
    lay(albedo, table, site.plain(glass, 0.05, 3.0))
    modules = lattice(site.u, rows.across, 1.1, panel / 2)
    frame = (np.abs(np.abs(modules.along) - 0.55) < 0.10) | (
        np.abs(np.abs(modules.across) - panel / 4) < 0.10
    )
    lay(albedo, table & frame, (0.46, 0.49, 0.55))
    height = np.where(table, 1.3 + 0.3 * rows.across, 0)
    return albedo, height.astype(np.float32)


def _park(
    site: Site,
    painting: Painting,
    places: Lattice,
    half_m: tuple[float, float],
    where: Mask,
    share: float,
) -> None:
    """Paint cars of ``2 * half_m`` metres (along, across) on a share of the parking places."""
    albedo, height = painting
    taken, colour, shift = places.draw(site.rng, 3)
    along = places.along + 0.3 * (shift - 0.5)
    car = (np.abs(along) < half_m[0]) & (np.abs(places.across) < half_m[1])
    car &= where & (taken < share)
    lengthwise = along if half_m[0] > half_m[1] else places.across
    lay(albedo, car, pick(CARS, colour))
    lay(albedo, car & (np.abs(np.abs(lengthwise + 0.2) - 1.0) < 0.35), (0.12, 0.14, 0.17))
    height[car] = 1.4
