"""Parts of the geotiff source: scenes, tiles, labels, and splits that share no ground."""
