"""The routing policy as it is written and shown; `promotion.releases` has the rules of its moves."""
