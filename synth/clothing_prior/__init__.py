"""Which label each vertex wears: voted on clothed people, or on real scans and photos."""
