"""Who may use the service: API keys and the addresses that need one."""
