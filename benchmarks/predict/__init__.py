"""Speed of maps from scenes."""
