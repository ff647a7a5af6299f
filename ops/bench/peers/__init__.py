"""Peers, each set up as its documentation recommends."""
