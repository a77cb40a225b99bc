"""Time and memory, as ratios measured side by side in one run. Start with ``make bench``."""
