"""What touches weights: the encoder, inference, the adapter's files, and the means of training.

    chat ── language_model ── answers ── generate, prompt_baselines
      └──── fine_tune ─┬─ training_callbacks ── checkpoints
                       └─ resources        adapter_files ── who scores, registers or serves

`chat` turns conversations into tokens for all of them. `adapter_files` says whether a folder
is the recorded adapter. torch and transformers are imported inside functions: they are slow.
"""
