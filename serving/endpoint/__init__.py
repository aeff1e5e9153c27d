"""The endpoint: one process in front of engine processes; what answers matches the ledger.

    ledger ─▶ follow (memory, outside) ─▶ fleet ─▶ release_engine ─▶ engine_process, engine_record
    quiet ─▶ spare_engines ─▶ engine_process, for the next release_engine that starts one
    completed ─▶ take_overs ─▶ shared, for releases of several models on one base
    client ─▶ routes ─▶ forward ─▶ lanes (who answers this name?) ─▶ upstream ─▶ engine process
    controller, command line ─▶ admin, at the address that admin_address publishes

`verify` and `probe` say whether a release may answer, `package_watch` whether its files still are
what was released, `limits` how long the endpoint waits, `endpoint` is the process's life.
"""
