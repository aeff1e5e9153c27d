"""The page on which people try what is served: a process of its own, and a client of the endpoint.

It asks over HTTP as any client does. So nothing of its server, its websockets or its widgets is in
the process that answers (docs/decisions/0025).

| file | holds |
| --- | --- |
| `api.py` | models, answers and ratings, as the endpoint gives them |
| `conversation.py` | what is on the page: questions, answers, and who is asked |
| `page.py` | the widgets; the only file with nicegui, beside its server |
| `server.py` | the server of the page, and under which names it answers |
| `address.py` | where it listens, for the endpoint's own `/` |
"""
