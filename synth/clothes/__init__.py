"""Garments, outfits, and people who wear them."""
