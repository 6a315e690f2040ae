"""One way to turn a customer into a number: features, model, calibration, threshold, bundle."""
