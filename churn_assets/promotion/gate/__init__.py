"""The gate: `inputs` loads everything a verdict depends on, `judge` decides and is pure."""
