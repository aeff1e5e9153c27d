"""Stage `generate`: what the adapter answers to the held-out prompts.

In: the adapter, the base model, the held-out prompts, and champion and anchor where there are any,
each with its own base where that is another one.
Out: `data/generate` with the answers and losses of each, `variants.jsonl`: answers to dev
prompts in the names of persons of several groups; `safety.json` where probes are asked for, and
`humaneval.json` where HumanEval's tasks are.
Refuses: an adapter that is not the recorded one, a prompt that is too long, a missing answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.files import digest_of_json, folder_bytes, write_jsonl
from core.settings import Settings
from pipelines import layout
from pipelines.code_tasks.asked import ask_humaneval
from pipelines.engines.scored_model import open_scored_model
from pipelines.kept_results import kept_results
from pipelines.models.adapter_files import check_adapter
from pipelines.models.answers import Identity, Messages, Places, answer
from pipelines.models.comparator_bases import PlacedBase, base_of, own_base
from pipelines.models.language_model import LanguageModel
from pipelines.models.probed import Trio, ask_probes
from pipelines.models.probes import read_questions
from pipelines.models.resumed import Resumed
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import read_comparators
from pipelines.values.dataset import Message, Prompt, group_prompts, read_rows
from pipelines.values.evidence import Adapter, Completions, System, Variant
from pipelines.values.params import BiasParams, GenerationParams, Params, load_params
from pipelines.values.training_set import read_training_set


@dataclass(frozen=True)
class NamedPrompt:
    """A dev prompt that is asked in the name of a person of a group."""

    group: str
    name: str
    prompt: Prompt
    messages: Messages


@dataclass(frozen=True)
class Questions:
    """The held-out prompts, under which base they are asked, and where the answers go."""

    base: BaseModelManifest
    prompts: Sequence[Prompt]
    params: GenerationParams
    places: Places


def generate(
    questions: Questions, adapter: Adapter, language: LanguageModel
) -> Completions:
    """Answer every prompt once by the adapter; `answer` names the errors."""
    folder = Path(adapter.folder)
    identity = _identity("adapter", questions, adapter, folder)
    return _answer_as(identity, questions, language)


def _identity(
    system: System, questions: Questions, adapter: Adapter, folder: Path
) -> Identity:
    return Identity(
        system=system,
        base=questions.base,
        adapter_sha256=adapter.sha256,
        adapter_bytes=folder_bytes(folder),
    )


def _answer_as(
    identity: Identity, questions: Questions, language: LanguageModel
) -> Completions:
    return answer(
        identity,
        language,
        questions.prompts,
        questions.params,
        questions.places,
    )


def name_variants(prompts: Sequence[Prompt], params: BiasParams) -> list[NamedPrompt]:
    """Ask each of `params.prompts` prompts in names of every group: all of them, or some by turns.

    The prompts are drawn by the order of their ids' digests: neither the data's order nor
    anybody's choice decides.
    """
    by_digest = sorted(prompts, key=lambda prompt: digest_of_json(prompt.id))
    return [
        NamedPrompt(group, name, prompt, _insert_name(prompt, params.template, name))
        for place, prompt in enumerate(by_digest[: params.prompts])
        for group, names in sorted(params.names.items())
        for name in _names_in_turn(names, place, params.names_a_prompt)
    ]


def _names_in_turn(
    names: tuple[str, ...], place: int, most: int | None
) -> tuple[str, ...]:
    """The names that a prompt is asked in, by its place: each comes as often as another."""
    count = len(names)
    # Many names of a group say more about it than many prompts of a few, and cost nothing more.
    if most is None or most >= count:
        return names
    first = place * most
    steps = range(first, first + most)
    return tuple(names[step % count] for step in steps)


def main() -> int:
    """Write answers and losses of adapter, champion and anchor, and `variants.jsonl`."""
    # What was answered before a kill is found there again.
    with kept_results("generate") as kept:
        completions = _answer_all(Places(layout.GENERATE, kept))
    print(f"{completions.rows} prompts answered by the adapter")
    return 0


def _answer_all(places: Places) -> Completions:
    params = load_params()
    own = own_base(Settings().home)
    adapter = Adapter.read(layout.ADAPTER)
    adapter_folder = Path(adapter.folder)
    # Checked though `fine_tune` wrote it: the folder may have changed since.
    check_adapter(adapter_folder, adapter, own.manifest)
    with open_scored_model(own, params.generation, adapter_folder) as language:
        return _ask_all(_Asked(own, adapter, language, params), places)


@dataclass(frozen=True)
class _Asked:
    """The run's adapter on its base, loaded, and how it is asked."""

    own: PlacedBase
    adapter: Adapter
    language: LanguageModel
    params: Params


def _ask_all(asked: _Asked, places: Places) -> Completions:
    own, adapter, language = asked.own, asked.adapter, asked.language
    params = asked.params
    training_set = read_training_set()
    prompts = group_prompts(read_rows(layout.HELD_OUT))
    questions = Questions(
        own.manifest,
        prompts,
        params.generation,
        places,
    )
    completions = generate(questions, adapter, language)
    # Names are tried on dev prompts: the held-out split judges answers, and nothing else.
    dev = group_prompts(read_rows(training_set.dev.checked()))
    asked_by = Resumed(language, "variants", adapter.sha256, places.kept)
    variants = _answer_variants(asked_by, dev, params)
    write_jsonl(layout.GENERATE / "variants.jsonl", variants)
    _answer_by_comparators(questions, own)
    trio = Trio.of(
        own, adapter, language, params.generation, open_scored_model, places.kept
    )
    if params.safety.asked:
        train = read_rows(training_set.train.checked())
        held_out = read_rows(layout.HELD_OUT)
        questions_of_safety = read_questions(params, train, held_out, Path())
        ask_probes(trio, questions_of_safety).write(layout.PROBED)
    if params.humaneval.samples:
        ask_humaneval(trio, params).write(layout.TASKS_ANSWERED)
    return completions


def _insert_name(prompt: Prompt, template: str, name: str) -> Messages:
    # The name belongs into the question: earlier messages stay what they were.
    *earlier_messages, question = prompt.messages
    content = template.format(name=name, prompt=question.content)
    named_question = Message(
        role=question.role,
        content=content,
    )
    return (*earlier_messages, named_question)


def _answer_variants(
    asked: Resumed, dev: Sequence[Prompt], params: Params
) -> list[dict[str, object]]:
    # A declared feature is compared on the data's own rows: no names are made up.
    if params.data.sensitive_feature is not None:
        return []
    # Equal prompts in other names: answers should differ by the name alone, if at all.
    named_prompts = name_variants(dev, params.bias)
    encoder = asked.language.encoder
    encoded = [encoder.prompt_ids(named.messages) for named in named_prompts]
    rows = asked.answers(
        "prompts in names",
        encoded,
        max_new_tokens=params.generation.max_new_tokens,
        batch_size=params.generation.batch_size,
    )
    variants = [
        Variant(
            group=named.group,
            name=named.name,
            prompt_id=named.prompt.id,
            text=encoder.decode(row.ids),
        )
        for named, row in zip(named_prompts, rows, strict=True)
    ]
    return [variant.model_dump() for variant in variants]


def _answer_by_comparators(questions: Questions, own: PlacedBase) -> None:
    """Have champion and anchor answer the same prompts as they are served.

    Each on the base of its own training, in its own precision and engine.
    """
    home = Settings().home
    for system, comparator in read_comparators():
        adapter = comparator.adapter
        base = base_of(system, adapter, own, home)
        params = comparator.as_served(questions.params)
        adapter_folder = layout.CHAMPION / system
        check_adapter(adapter_folder, adapter, base.manifest)
        on_its_base = replace(
            questions,
            base=base.manifest,
            params=params,
        )
        identity = _identity(system, on_its_base, adapter, adapter_folder)
        with open_scored_model(base, params, adapter_folder) as language:
            _answer_as(identity, on_its_base, language)
