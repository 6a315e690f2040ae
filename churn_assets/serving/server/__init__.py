"""The processes of the service and the connections to them: what BentoML and uvicorn leave open."""
