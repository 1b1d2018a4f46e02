"""Figures of reports as geometry in CSS pixels; the template ``figures.html.jinja`` draws them."""
