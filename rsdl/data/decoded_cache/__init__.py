"""Cache of decoded pixels on the node: policy, file access and file layout."""
