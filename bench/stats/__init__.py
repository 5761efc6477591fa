"""Pure numbers: percentiles, intervals, ratios, steady state, sample planning. No torch, no clock."""
