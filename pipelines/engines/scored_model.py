"""A model to be scored, in the engine that its answers and losses are to come from.

transformers computes with the loaded weights. Another engine is opened with the code that serves,
and closed afterwards. None stands in for another: what is scored would not be what is named.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import ServingError, UnusableBaseModel
from core.files import digest_of_files, folder_digests
from pipelines.engines import OPENVINO, TRANSFORMERS, VLLM, NotTaken
from pipelines.engines.engine_rows import SCORED, EngineRows
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.values.params import GenerationParams
from pipelines.values.serving_spec import ServingSpec

Specs = dict[str, ServingSpec]
_TRIAL_RANK = 8


@contextmanager
def open_scored_model(
    base: PlacedBase, params: GenerationParams, adapter: Path | None = None
) -> Iterator[LanguageModel]:
    """Load a base with the adapter or the prompt in `adapter`, and have `params.engine` compute.

    Both are expected to be checked already. `UnusableBaseModel` where the base does not load, or
    that engine does not take it.
    """
    language = load_language_model(
        base.manifest, base.folder, base.template, params.precision, adapter
    )
    if params.engine == TRANSFORMERS:
        yield language
        return
    opened = _open(language, base, params, adapter)
    # The engine has weights of its own: two of them would not fit where one does.
    language = replace(language, model=None, engine=opened)
    try:
        yield language
    finally:
        opened.engine.close()


def check_takes(base: PlacedBase, params: GenerationParams) -> None:
    """Return only if `params.engine` takes the base and adapters on it: it opens them.

    `UnusableBaseModel` with the reason otherwise. Whoever calls it holds no weights meanwhile.
    """
    # The loaded model has been asked by itself.
    if params.engine == TRANSFORMERS:
        return
    # With one, since an engine may take the base alone: that would be found after training.
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        has_adapter = _write_trial_adapter(base, params, folder)
        with open_scored_model(base, params, folder if has_adapter else None):
            pass


def _write_trial_adapter(
    base: PlacedBase, params: GenerationParams, folder: Path
) -> bool:
    """Write an adapter on every linear layer, which changes answers and was never trained.

    False where peft puts none on all of them: a run may train some, and nobody knows which.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    language = load_language_model(
        base.manifest, base.folder, base.template, params.precision
    )
    config = LoraConfig(
        r=_TRIAL_RANK,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        # Both matrices are drawn: with a zero among them it would change nothing.
        init_lora_weights=False,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft mends that for a base whose matrices lie turned, as in training.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        torch.manual_seed(0)
        try:
            model = get_peft_model(language.model, config)
        except (NotImplementedError, TypeError, ValueError):
            return False
    model.save_pretrained(str(folder))
    return True


def _open(
    language: LanguageModel,
    base: PlacedBase,
    params: GenerationParams,
    adapter: Path | None,
) -> EngineRows:
    spec = ServingSpec.of_transformers(
        base.manifest, params.precision, params.max_new_tokens
    )
    if adapter is not None:
        digest = digest_of_files(folder_digests(adapter))
        spec = spec.with_adapter(digest)
    specs = {SCORED: spec}
    try:
        if params.engine == OPENVINO:
            return _open_openvino(language, specs)
        return _open_vllm(language, specs, base, adapter)
    except NotTaken as reason:
        raise UnusableBaseModel(
            f"{base.manifest.id} cannot be scored in {params.engine}: {reason}. "
            "Leave it to transformers (generation.engine), or take another base."
        ) from reason
    except ServingError as reason:
        raise UnusableBaseModel(
            f"{base.manifest.id} cannot be scored in {params.engine}: {reason}. "
            "Mend that. A run may set generation.engine=transformers instead."
        ) from reason


def _open_openvino(language: LanguageModel, specs: Specs) -> EngineRows:
    from pipelines.engines.openvino.opening import library_version, open_openvino
    from pipelines.engines.transformers import (
        QUEUE_LENGTH,
        TransformersEngine,
        has_adapter,
    )

    compiled = open_openvino(language, has_adapter=has_adapter(language, specs))
    without_weights = replace(language, model=None)
    # As many rows at once as while it serves: with 64 each token took half as long again.
    engine = TransformersEngine(without_weights, specs, compiled=compiled)
    return EngineRows(OPENVINO, library_version(), engine, QUEUE_LENGTH)


def _open_vllm(
    language: LanguageModel, specs: Specs, base: PlacedBase, adapter: Path | None
) -> EngineRows:
    from pipelines.engines.vllm.engine import QUEUE_LENGTH
    from pipelines.engines.vllm.opening import Weights, open_vllm, plan_vllm

    weights = Weights(base.folder, base.manifest.digest, adapter)
    plan = plan_vllm(language, specs, weights)
    engine = open_vllm(plan, language, specs)
    version = engine.specs[SCORED].engine_version
    return EngineRows(VLLM, version, engine, plan.order.rows + QUEUE_LENGTH)
