"""Stage `generate`: what the adapter answers, and the champion where there is one, to the held-out prompts."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.adapter_files import check_adapter
from pipelines.answers import Identity, answer
from pipelines.base_model import locate, read_base_model
from pipelines.champion import read_champion
from pipelines.dataset import Message, Prompt, prompts_of, read_rows
from pipelines.errors import UnsafeAdapter
from pipelines.evidence import Adapter, BaseModelManifest, Completions, Variant
from pipelines.files import digest_of_json, write_jsonl
from pipelines.language_model import LanguageModel, load_language_model
from pipelines.language_model import generate as generate_ids
from pipelines.params import BiasParams, GenerationParams, Params, load_params
from pipelines.progress import progress_bar
from pipelines.settings import Settings
from pipelines.training_set import read_training_set

OUT = Path("data/generate")


def generate(
    base: BaseModelManifest, adapter: Adapter, language: LanguageModel, prompts: Sequence[Prompt], params: GenerationParams
) -> Completions:
    """The adapter's answers, one a prompt."""
    return answer(Identity(system="adapter", base=base, adapter_sha256=adapter.sha256), language, prompts, params, OUT)


def name_variants(prompts: Sequence[Prompt], params: BiasParams) -> list[tuple[str, str, Prompt, tuple[Message, ...]]]:
    """(group, name, prompt, turns) for the first `params.prompts` prompts in the order of their content's digest."""
    chosen = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))[: params.prompts]
    return [
        (group, name, prompt, _named(prompt, params.template, name))
        for prompt in chosen
        for group, names in sorted(params.names.items())
        for name in names
    ]


def main() -> int:
    """Write the adapter's answers and losses, the champion's where there is one, and `variants.jsonl`."""
    params, training_set = load_params(), read_training_set()
    base, template = read_base_model()
    folder = locate(base, Settings().home)
    adapter = Adapter.read(Path("data/fine_tune/adapter.json"))
    check_adapter(Path(adapter.folder), adapter, base)
    language = load_language_model(base, folder, template, params.generation.precision, Path(adapter.folder))
    prompts = prompts_of(read_rows(Path("data/validate/held_out.jsonl")))
    completions = generate(base, adapter, language, prompts, params.generation)
    write_jsonl(OUT / "variants.jsonl", _variants(language, prompts_of(read_rows(training_set.dev.checked())), params))
    _champion(base, folder, template, prompts, params.generation)
    print(f"{completions.rows} prompts answered by the adapter")
    return 0


def _named(prompt: Prompt, template: str, name: str) -> tuple[Message, ...]:
    *before, last = prompt.messages
    return (*before, Message(role=last.role, content=template.format(name=name, prompt=last.content)))


def _variants(language: LanguageModel, dev: Sequence[Prompt], params: Params) -> list[dict[str, object]]:
    if params.data.sensitive_feature is not None:
        return []
    asked = name_variants(dev, params.bias)
    encoded = [language.encoder.prompt_ids(turns) for _, _, _, turns in asked]
    with progress_bar("answers, name variants", len(asked)) as advance:
        rows = generate_ids(
            language, encoded, max_new_tokens=params.generation.max_new_tokens, batch_size=params.generation.batch_size, advance=advance
        )
    return [
        Variant(group=group, name=name, prompt_id=prompt.id, text=language.encoder.decode(row.ids)).model_dump()
        for (group, name, prompt, _), row in zip(asked, rows, strict=True)
    ]


def _champion(base: BaseModelManifest, folder: Path, template: str | None, prompts: Sequence[Prompt], params: GenerationParams) -> None:
    champion = read_champion()
    if champion is None:
        return
    if champion.adapter.chat_template_sha256 != base.chat_template_sha256:
        raise UnsafeAdapter(f"Champion version {champion.version} was trained under another chat template. Train it again under this one.")
    adapter_folder = Path("data/champion") / Path(champion.adapter.folder).name
    check_adapter(adapter_folder, champion.adapter, base)
    language = load_language_model(base, folder, template, params.precision, adapter_folder)
    answer(Identity(system="champion", base=base, adapter_sha256=champion.adapter.sha256), language, prompts, params, OUT)
