"""Dated facts as rows with their source: chips, instances, prices, published results, claims."""
