"""What the endpoint shows of itself: counts, times and, where somebody asks for them, records.

    request ─▶ watch (one Exchange) ─▶ observer ─▶ metrics, request_log, traces
    rating ─▶ observer ─▶ metrics, request_log
    Prometheus ─▶ metrics ─▶ figures: what the endpoint says of its engines at that moment

`answer_facts` reads an answer, `records` says what is kept of it in which columns, `store` writes
Parquet without ever being waited for, `reading` reads it again. Texts reach records alone, masked.
"""
