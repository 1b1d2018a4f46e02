"""What every benchmark is made of: turns, results, plots, workers, and data to measure on."""
