"""OpenAI's two forms of an answer, whole and in pieces.

common               what both have, and what is known of each text of an answer
  └─ chat, completion
"""
