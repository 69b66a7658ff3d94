"""PhyCHarm: harmonization by quantitative maps and the signal equation (Lee et al., medRxiv 2025.02.07.25321867)."""
