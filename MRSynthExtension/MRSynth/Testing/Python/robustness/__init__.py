"""What a broken input, a broken checkpoint and a killed run do to MRSynth, counted.

`python MRSynthExtension/MRSynth/Testing/Python/robustness --help` tells how to run it and how to repeat one case;
docs/reliability.md has the figures.
"""
