"""Parts of the synthetic source: relief, colours and the painters of each land use."""
