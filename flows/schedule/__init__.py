"""What Prefect runs by itself, and what notices that it did not.

deploy ─ prefect.yaml, automations        prefect_server, prefect_login   the server
worker ─ engine ─ a flow run              prefect_api                     questions to it
arrivals   new rows start a training      overdue   a scheduled run that did not run
crashes    a crashed run is reported      crashed   the flow that an automation starts
"""
