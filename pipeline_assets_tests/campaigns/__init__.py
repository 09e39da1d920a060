"""Long seeded scripts; what they printed is in docs/campaigns."""
