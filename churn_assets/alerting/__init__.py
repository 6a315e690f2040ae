"""Alerts: rules, store and delivery."""
