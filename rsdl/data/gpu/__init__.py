"""What was measured to pay on a GPU: pixels that stay there, decoding and cropping there."""
