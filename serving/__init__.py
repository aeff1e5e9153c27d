"""Long-running web processes: the endpoint and its engines. No Prefect here."""
