"""The papers' protocols: do scans of different scanners still differ after harmonization?"""
