"""What a run and an evaluation leave behind: typed, and read by whoever reports on them."""
