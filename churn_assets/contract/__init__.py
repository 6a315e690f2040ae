"""The contract: one TOML file that describes a customer table. Standard library only."""
