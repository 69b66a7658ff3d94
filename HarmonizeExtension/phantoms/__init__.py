"""Simulated travelling cohorts: people of known anatomy, scanned by every scanner."""
