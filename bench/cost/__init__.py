"""Money: prices and records -> USD per item, and what would change the answer. No torch, no measuring."""
