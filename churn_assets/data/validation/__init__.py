"""Typed rows that keep the contract, and the rejected rows with their reasons."""
