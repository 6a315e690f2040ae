"""Dagster: assets, checks, jobs, schedules, sensors and what they run on. It stops at this folder."""
