"""Chat templates with the structure of the published ones, in words of our own."""

INSTRUCTIONS = """\
{%- set named = namespace(system='') -%}
{%- for turn in messages -%}
{%- if turn.role == 'system' -%}
{%- set named.system = '<<SYS>>\\n' ~ turn.content ~ '\\n<</SYS>>\\n\\n' -%}
{%- elif turn.role == 'user' -%}
{{- bos_token ~ '[INST] ' ~ (named.system ~ turn.content).strip() ~ ' [/INST]' -}}
{%- set named.system = '' -%}
{%- else -%}
{{- ' ' ~ turn.content.strip() ~ ' ' ~ eos_token -}}
{%- endif -%}
{%- endfor -%}"""
"""Llama 2: a beginning for each user turn, nothing before an answer, spaces around it."""

INSTRUCTIONS_WITHOUT_SYSTEM = """\
{{- bos_token -}}
{%- for turn in messages -%}
{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('User and assistant have to take turns.') -}}
{%- endif -%}
{%- if turn.role == 'user' -%}
{{- '[INST] ' ~ turn.content ~ ' [/INST]' -}}
{%- elif turn.role == 'assistant' -%}
{{- turn.content ~ eos_token -}}
{%- else -%}
{{- raise_exception('There are turns of users and assistants only.') -}}
{%- endif -%}
{%- endfor -%}"""
"""Mistral 0.1: one beginning, and no system turn."""

NAMED_ROLES = """\
{%- for turn in messages %}
{{ '<|' ~ turn.role ~ '|>\\n' ~ turn.content ~ eos_token }}
{% endfor -%}
{%- if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif -%}"""
"""Zephyr and TinyLlama: roles are plain text, and only the end is a token."""

HEADERS = """\
{{- bos_token -}}
{%- for turn in messages -%}
{{- '<|start_header_id|>' ~ turn.role ~ '<|end_header_id|>\\n\\n' -}}
{{- turn.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}"""
"""Llama 3."""

DATED_HEADERS = """\
{{- bos_token -}}
{%- if date_string is not defined -%}
{%- set date_string = strftime_now('%d %b %Y') -%}
{%- endif -%}
{%- set has_system = messages[0].role == 'system' -%}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}
{{- 'Today is ' ~ date_string ~ '.\\n\\n' -}}
{{- (messages[0].content | trim if has_system else '') ~ '<|eot_id|>' -}}
{%- for turn in (messages[1:] if has_system else messages) -%}
{{- '<|start_header_id|>' ~ turn.role ~ '<|end_header_id|>\\n\\n' -}}
{{- turn.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}"""
"""Llama 3.1 and 3.2: the day in the system's header, unless the caller gives another."""

CHATML = """\
{%- for turn in messages -%}
{{- '<|im_start|>' ~ turn.role ~ '\\n' ~ turn.content ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""
"""ChatML without a turn of its own."""

CHATML_WITH_DEFAULT = (
    """\
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou help people at the harbour.<|im_end|>\\n' -}}
{%- endif -%}
"""
    + CHATML
)
"""Qwen 2.5 and SmolLM2: a system turn of its own where the conversation has none."""

DATED_CHATML = (
    """\
{{- '<|im_start|>system\\nToday: ' ~ strftime_now('%d %B %Y') ~ '<|im_end|>\\n' -}}
"""
    + CHATML
)
"""SmolLM3: the day, and no way for the caller to give another."""

BEGUN_CHATML = "{{- bos_token -}}\n" + CHATML
"""LFM2: ChatML behind a beginning."""

_THOUGHTFUL_TURNS = """\
{%- set asked = namespace(last=0) -%}
{%- for turn in messages -%}
{%- if turn.role == 'user' -%}{%- set asked.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for turn in messages -%}
{%- set text = turn.content -%}
{%- set thought = '' -%}
{%- if turn.role == 'assistant' and '</think>' in text -%}
{%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>' ~ turn.role ~ '\\n' -}}
{%- if turn.role == 'assistant' and loop.index0 > asked.last -%}
{{- '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- text ~ '<|im_end|>\\n' -}}
{%- endfor -%}
"""

MAY_THINK = (
    _THOUGHTFUL_TURNS
    + """\
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}"""
)
"""Qwen 3: the last answer has a thought, which the caller can have left empty."""

OPENS_THOUGHT_UNLESS_TOLD = (
    _THOUGHTFUL_TURNS
    + """\
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- else -%}
{{- '<think>\\n' -}}
{%- endif -%}
{%- endif -%}"""
)
"""Qwen 3.5: a thought is opened, unless the caller switches it off."""

ALWAYS_THINKS = """\
{{- bos_token -}}
{%- for turn in messages -%}
{%- if turn.role == 'user' -%}
{{- '<|User|>' ~ turn.content -}}
{%- elif turn.role == 'system' -%}
{{- turn.content -}}
{%- else -%}
{{- '<|Assistant|>' ~ turn.content.split('</think>')[-1] ~ eos_token -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|Assistant|><think>\\n' -}}
{%- endif -%}"""
"""Distilled from R1: a thought is always opened, and left out of earlier answers."""

MODEL_TURNS = """\
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}
{{- raise_exception('This model knows no system turn.') -}}
{%- endif -%}
{%- for turn in messages -%}
{%- set role = 'model' if turn.role == 'assistant' else turn.role -%}
{{- '<start_of_turn>' ~ role ~ '\\n' ~ turn.content | trim ~ '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<start_of_turn>model\\n' -}}
{%- endif -%}"""
"""Gemma 1 and 2."""

MODEL_TURNS_WITH_SYSTEM = """\
{{- bos_token -}}
{%- set has_system = messages[0].role == 'system' -%}
{%- set prefix = messages[0].content ~ '\\n\\n' if has_system else '' -%}
{%- for turn in (messages[1:] if has_system else messages) -%}
{%- set role = 'model' if turn.role == 'assistant' else turn.role -%}
{{- '<start_of_turn>' ~ role ~ '\\n' ~ (prefix if loop.first else '') -}}
{%- if turn.content is string -%}
{{- turn.content | trim -}}
{%- else -%}
{%- for part in turn.content -%}{{- part.text | trim -}}{%- endfor -%}
{%- endif -%}
{{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<start_of_turn>model\\n' -}}
{%- endif -%}"""
"""Gemma 3: what the system says stands before what the user says first."""

TAGGED_ROLES = """\
{%- for turn in messages -%}
{{- '<|' ~ turn.role ~ '|>\\n' ~ turn.content ~ '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>\\n' -}}
{%- else -%}
{{- eos_token -}}
{%- endif -%}"""
"""Phi-3: roles are tokens, and a whole conversation ends with another token than an answer."""

WITHOUT_GENERATION_PROMPT = """\
{%- for turn in messages -%}
{{- '<|im_start|>' ~ turn.role ~ '\\n' ~ turn.content ~ '<|im_end|>\\n' -}}
{%- endfor -%}"""
"""ChatML that never opens an answer: the model itself would have to write who speaks."""

TEXT_ONLY = """\
{%- for turn in messages -%}
{{- turn.role | upper ~ ': ' ~ turn.content ~ '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"""
"""No control token at all, and no space where an answer begins."""
