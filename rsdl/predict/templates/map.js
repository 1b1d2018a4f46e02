"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const onEarth = page.on_earth;
  const map = L.map("map", {
    crs: onEarth ? L.CRS.EPSG3857 : L.CRS.Simple,
    minZoom: onEarth ? 0 : -8, maxZoom: onEarth ? 24 : 6, zoomSnap: 0.25,
    attributionControl: false, maxBoundsViscosity: 0.8,
    fadeAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
  });
  const bounds = L.latLngBounds(page.bounds);
  const overlay = (picture, className) =>
    L.imageOverlay(picture.uri, bounds, { alt: picture.alt, className: className }).addTo(map);
  const scene = overlay(page.scene, "scene");
  const layers = { Scene: scene };
  const name = page.layer.toLowerCase();
  const picture = page[name] && overlay(page[name], name + " sharp");
  if (picture) layers[page.layer] = picture;

  let polygons = null;
  if (page.polygons) {
    // Text nodes: names are foreign text, and Leaflet takes strings for HTML.
    const label = (feature) => {
      const text = document.createElement("span");
      const { name, area_m2, probability, score } = feature.properties;
      const sides = (unit) => ["length_", "width_"].map(
        (side) => feature.properties[side + unit].toFixed(1)).join(" \u00d7 ") + " " + unit;
      text.textContent = score !== undefined
        ? name + ": score " + score.toFixed(2) + ", " + sides(area_m2 === undefined ? "px" : "m")
        : name + ": " + Math.round(area_m2).toLocaleString("en") + " m\u00b2" +
          (probability === undefined ? "" : ", probability " + probability.toFixed(2));
      return text;
    };
    polygons = L.geoJSON(page.polygons, {
      // Where the scene lies beyond the 180th meridian, so do its pictures.
      coordsToLatLng: ([lon, lat]) => {
        if (!onEarth) return L.latLng(lat, lon);
        const turns = Math.round((bounds.getCenter().lng - lon) / 360);
        return L.latLng(lat, lon + 360 * turns);
      },
      style: (feature) => ({
        color: page.colours[feature.properties.class], weight: 2, fillOpacity: 0.05,
      }),
    }).bindPopup((layer) => label(layer.feature));
    // Without a picture they are what the page is for.
    layers[picture ? "Polygons" : page.layer] = picture ? polygons : polygons.addTo(map);
  }
  L.control.layers(null, layers, { collapsed: false, position: "topright" }).addTo(map);
  if (onEarth) L.control.scale({ maxWidth: 160, imperial: false }).addTo(map);
  const position = L.control({ position: "bottomright" });
  position.onAdd = () => L.DomUtil.create("div", "position");
  position.addTo(map);
  map.on("mousemove", ({ latlng }) => {
    const there = onEarth ? latlng.wrap() : latlng;
    position.getContainer().textContent = onEarth
      ? there.lat.toFixed(6) + ", " + there.lng.toFixed(6)
      : "row " + Math.floor(-there.lat) + ", column " + Math.floor(there.lng);
  });
  map.on("mouseout", () => { position.getContainer().textContent = ""; });

  const slider = document.getElementById("opacity");
  const shown = document.getElementById("shown");
  const fade = () => {
    const opacity = slider.value / 100;
    if (picture) picture.setOpacity(opacity);
    else if (polygons) polygons.setStyle({ opacity: opacity, fillOpacity: opacity / 20 });
    shown.textContent = slider.value + "%";
  };
  slider.addEventListener("input", fade);
  map.on("layeradd", fade);
  fade();
  map.fitBounds(bounds, { padding: [12, 12] });
  map.setMaxBounds(bounds.pad(1));
  new ResizeObserver(() => map.invalidateSize()).observe(map.getContainer());
})();
