"""Letting a new model in: the routing policy, who gets which model, what is counted by arm, the tests that watch it.

Nothing here moves anything: `promotion.releases` does. The service imports it, so no heavy library is imported here.
"""
