"""From a trained network and a scene to a map, window by window: memory is bounded."""
