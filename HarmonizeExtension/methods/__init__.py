"""The harmonizers; `catalogue` lists them."""
