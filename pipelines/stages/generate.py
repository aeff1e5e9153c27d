"""Stage `generate`: what the adapter answers, and champion and anchor where there are any, to the held-out prompts."""

from collections.abc import Sequence
from pathlib import Path

from core.files import digest_of_json, write_jsonl
from core.progress import progress_bar
from core.settings import Settings
from pipelines import layout
from pipelines.models.adapter_files import check_adapter
from pipelines.models.answers import Identity, answer
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.models.language_model import generate as generate_ids
from pipelines.stages.base_model import locate, read_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import FOLDER, read_comparators
from pipelines.values.dataset import Message, Prompt, prompts_of, read_rows
from pipelines.values.evidence import Adapter, Completions, Variant
from pipelines.values.params import BiasParams, GenerationParams, Params, load_params
from pipelines.values.training_set import read_training_set

OUT = layout.GENERATE


def generate(
    base: BaseModelManifest,
    adapter: Adapter,
    language: LanguageModel,
    prompts: Sequence[Prompt],
    params: GenerationParams,
) -> Completions:
    """The adapter's answers, one a prompt."""
    return answer(
        Identity(system="adapter", base=base, adapter_sha256=adapter.sha256),
        language,
        prompts,
        params,
        OUT,
    )


def name_variants(
    prompts: Sequence[Prompt], params: BiasParams
) -> list[tuple[str, str, Prompt, tuple[Message, ...]]]:
    """(group, name, prompt, turns) for the first `params.prompts` prompts in the order of their content's digest."""
    chosen = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))[
        : params.prompts
    ]
    return [
        (group, name, prompt, _named(prompt, params.template, name))
        for prompt in chosen
        for group, names in sorted(params.names.items())
        for name in names
    ]


def main() -> int:
    """Write the adapter's answers and losses, those of champion and anchor where there are any, and `variants.jsonl`."""
    params, training_set = load_params(), read_training_set()
    base, template = read_base_model()
    folder = locate(base, Settings().home)
    adapter = Adapter.read(layout.ADAPTER)
    check_adapter(Path(adapter.folder), adapter, base)
    language = load_language_model(
        base, folder, template, params.generation.precision, Path(adapter.folder)
    )
    prompts = prompts_of(read_rows(layout.HELD_OUT))
    completions = generate(base, adapter, language, prompts, params.generation)
    write_jsonl(
        OUT / "variants.jsonl",
        _variants(language, prompts_of(read_rows(training_set.dev.checked())), params),
    )
    _rivals(base, folder, template, prompts, params.generation)
    print(f"{completions.rows} prompts answered by the adapter")
    return 0


def _named(prompt: Prompt, template: str, name: str) -> tuple[Message, ...]:
    *before, last = prompt.messages
    return (
        *before,
        Message(
            role=last.role, content=template.format(name=name, prompt=last.content)
        ),
    )


def _variants(
    language: LanguageModel, dev: Sequence[Prompt], params: Params
) -> list[dict[str, object]]:
    if params.data.sensitive_feature is not None:
        return []
    asked = name_variants(dev, params.bias)
    encoded = [language.encoder.prompt_ids(turns) for _, _, _, turns in asked]
    with progress_bar("answers, name variants", len(asked)) as advance:
        rows = generate_ids(
            language,
            encoded,
            max_new_tokens=params.generation.max_new_tokens,
            batch_size=params.generation.batch_size,
            advance=advance,
        )
    return [
        Variant(
            group=group,
            name=name,
            prompt_id=prompt.id,
            text=language.encoder.decode(row.ids),
        ).model_dump()
        for (group, name, prompt, _), row in zip(asked, rows, strict=True)
    ]


def _rivals(
    base: BaseModelManifest,
    folder: Path,
    template: str | None,
    prompts: Sequence[Prompt],
    params: GenerationParams,
) -> None:
    """Champion and anchor answer the same prompts, each under the base that all of them share."""
    for system, comparator in read_comparators(base):
        adapter_folder = FOLDER / system
        check_adapter(adapter_folder, comparator.adapter, base)
        language = load_language_model(
            base, folder, template, params.precision, adapter_folder
        )
        answer(
            Identity(
                system=system, base=base, adapter_sha256=comparator.adapter.sha256
            ),
            language,
            prompts,
            params,
            OUT,
        )
