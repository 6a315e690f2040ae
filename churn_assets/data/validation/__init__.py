"""Typed rows that keep the contract, the others with reasons."""
