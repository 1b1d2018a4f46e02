"""The policies of the Nautilus cluster (nrp.ai, as of January 2026)."""
