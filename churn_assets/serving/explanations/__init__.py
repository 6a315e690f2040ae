"""The routes /explain, /counterfactual and /anchor, and the process that computes their answers."""
