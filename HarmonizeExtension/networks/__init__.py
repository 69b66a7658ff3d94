"""Building blocks of networks that more than one system uses (torch)."""
