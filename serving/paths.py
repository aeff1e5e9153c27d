"""The routes that both the endpoint and its engines serve."""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
