"""Routes and headers that the endpoint and its engines have in common."""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
FINGERPRINT_HEADER = "x-assay-fingerprint"
RELEASE_HEADER = "x-assay-release"
PROMPT_TOKENS_HEADER = "x-assay-prompt-tokens"
"""How many tokens the prompts of a request have, all together."""
