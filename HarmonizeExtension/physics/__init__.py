"""Forward models: what a scanner makes of tissue."""
