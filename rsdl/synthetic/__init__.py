"""Procedural scenes of the synthetic source: relief, colours and one painter per land use."""
