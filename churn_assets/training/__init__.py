"""From a validated table to a chosen, calibrated scorer. Sits on top of `scoring`: models score, training fits."""
