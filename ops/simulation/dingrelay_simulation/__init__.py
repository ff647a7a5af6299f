"""A fleet in virtual time: the real core under a seed, with faults at every wait, replayed byte for byte."""
