"""What changes a result: `params.yaml`, parsed into closed models.

`core.settings` holds where things run, which changes no result.
"""

import codecs
import difflib
import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from core.errors import ParameterError
from core.files import write_text
from core.value import Settable, first_problem
from pipelines import layout
from pipelines.values.engine_name import EngineName
from pipelines.values.humaneval import HumanEvalParams
from pipelines.values.json_schema import JsonSchema
from pipelines.values.metric_settings import BleuSettings, MetricSettings
from pipelines.values.precision import Precision
from pipelines.values.reading import ShapeName
from pipelines.values.safety import Probe
from pipelines.values.sampling import DEFAULT, SampledAs, Samples, seeds_from

# Every number has both ends: one that is absurdly large would fill memory or disk before it fails.
Share = Annotated[float, Field(gt=0, lt=1)]
_MOST_RANK_IN_VLLM = 512
Count = Annotated[int, Field(ge=1, le=10**9)]
# `fromisoformat` takes other forms, too.
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# What numpy and torch both take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


# By words: most of the characters mean something in YAML.
DELIMITERS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "bar": "|",
    "colon": ":",
    "caret": "^",
    "tilde": "~",
}
Delimiter = Literal["comma", "semicolon", "tab", "bar", "colon", "caret", "tilde"]
Format = Literal["jsonl", "json", "csv", "xlsx", "parquet", "arrow"]
# Codecs of Python that are no encoding of a file's text.
_NO_FILE_ENCODINGS = {"idna", "punycode", "undefined", "utf-7"}
_NO_FILE_ENCODINGS |= {"unicode-escape", "raw-unicode-escape"}


class DataParams(Settable):
    """Where the rows come from, how their file is read, and which columns hold what.

    A column that is null is searched under its usual names.
    """

    source: Literal["cheat", "file"]
    licence: str | None = Field(
        description="SPDX identifier of the data's licence; admit refuses data without one."
    )
    # With a default: the parameters of older runs do not have it.
    shape: ShapeName | None = Field(
        default=None,
        description="How records hold prompt and answer; null: recognised from the columns.",
    )
    prompt_column: str
    completion_column: str
    messages_column: str
    group_column: str | None = Field(
        description="Rows of one group stay in one split; null: rows of one prompt."
    )
    sensitive_feature: str | None = Field(
        description="Column whose groups the bias stage compares; null: name templates."
    )
    tests_column: str | None = Field(
        default=None,
        description="Column of Python tests, for the metric unit_tests; null: none.",
    )
    max_characters: Count = Field(
        description="Longest prompt or completion, in characters after normalisation."
    )
    # These five are recognised where they are null; what was a guess is said.
    format: Format | None = Field(
        default=None, description="What the file is; null: as it looks."
    )
    encoding: Annotated[str, Field(min_length=1, max_length=40)] | None = Field(
        default=None,
        description="Encoding of a text, as Python names it; null: as it looks.",
    )
    delimiter: Delimiter | None = Field(
        default=None, description="What stands between fields; null: as it looks."
    )
    sheet: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="Sheet of a workbook; null: the first that holds something.",
    )
    dataset_split: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="Split of a folder that `datasets` saved; null: the only one, or train.",
    )

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            # An encoding of bytes, such as base64, does not encode a text.
            "a".encode(encoding)
            name = codecs.lookup(encoding).name
        except (LookupError, ValueError) as error:
            raise ValueError(f"there is no encoding {encoding!r}") from error
        if name in _NO_FILE_ENCODINGS:
            raise ValueError(f"{encoding} is no encoding of a file")
        return encoding


class SplitParams(Settable):
    """Shares of the groups that choose (dev) and that judge (held-out); the rest trains."""

    # Of groups, not of rows: a split may hold more or fewer rows than its share.
    dev: Share
    held_out: Share
    salt: str = Field(
        description="A new value draws another split; keep it while results are compared."
    )


class BaseModelParams(Settable):
    """Which weights fine-tuning starts from, pinned by digest once they are known."""

    # Not any name of a hub: nothing is downloaded that is not pinned by digest.
    source: Literal["smollm2", "folder"]
    id: str
    path: str | None = Field(description="The folder, for source `folder`.")
    digest: str | None = Field(
        description="SHA-256 over the folder's files, for source `folder`."
    )
    chat_template: str | None = Field(
        description="Text of a Jinja chat template that replaces the model's own."
    )
    completion_mode: bool = Field(
        description="No chat template: the prompt's text, then the completion."
    )
    template_date: str = Field(
        default="2026-01-01",
        description="The day that a chat template which writes today's date is given, "
        "as YYYY-MM-DD in quotes.",
    )

    @field_validator("template_date", mode="before")
    @classmethod
    def _is_a_day(cls, text: Any) -> Any:
        # DVC reads the same file, and takes no dates without quotes.
        if isinstance(text, date):
            raise ValueError("it needs quotes")  # noqa: TRY004 - shown as a parameter's fault
        is_day = isinstance(text, str) and _DAY.fullmatch(text) is not None
        if not is_day:
            raise ValueError("it is no day in the form YYYY-MM-DD")
        date.fromisoformat(text)
        return text


class LoraParams(Settable):
    """peft's own words."""

    r: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[float, Field(gt=0, le=10**6)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: str | tuple[str, ...]


class TrainParams(Settable):
    """How long and how fast to train. Early stopping looks at the dev split."""

    epochs: Annotated[float, Field(gt=0, le=10**6)]
    max_steps: Count | None
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    max_tokens: Annotated[int, Field(ge=8, le=10**9)] = Field(
        description="Longest row, prompt and completion; a longer one is an error."
    )
    evaluate_every: Count = Field(
        description="Steps between two looks at the dev loss; also between checkpoints."
    )
    patience: Count = Field(
        description="Looks without improvement before training stops."
    )
    # bfloat16 where the device has it, else float32.
    precision: Literal["auto", "float32", "bfloat16"]
    seed: Seed


class FewShotParams(Settable):
    """The prompt-only baseline: the draw of training examples with the lowest dev loss."""

    # The adapter must beat the best prompt that this search finds, not an arbitrary one.
    examples: Count
    draws: Count
    seed: Seed


class GenerationParams(Settable):
    """How answers are made: greedy, so that a seed changes nothing but the order of ties.

    With a temperature each prompt is answered by chance as well, and scores are means of that.
    """

    max_new_tokens: Count
    batch_size: Count
    precision: Precision
    seed: Seed
    # Left out where it is the usual one: such a project has the keys that it had before.
    engine: EngineName = Field(
        default="transformers",
        exclude_if=lambda engine: engine == "transformers",
        description="What computes answers and losses, and what serves them then.",
    )
    # Left out where they are null: a greedy project has the keys that it had before.
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None,
        exclude_if=lambda temperature: temperature is None,
        description="At which the model will be asked; null or 0: greedily.",
    )
    samples: Samples | None = Field(
        default=None,
        exclude_if=lambda samples: samples is None,
        description="Answers to each prompt at that temperature; null: 5.",
    )

    @property
    def sampled_as(self) -> SampledAs | None:
        """Temperature and seeds of the sampled answers; None where answers are greedy."""
        if not self.temperature:
            return None
        seeds = seeds_from(self.seed, self.samples or DEFAULT)
        return SampledAs(temperature=self.temperature, seeds=seeds)

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        # Found now, and not by the engine, once rows were collected and checked.
        if self.engine == "openvino" and self.precision == "bfloat16":
            raise ValueError(
                "openvino has no bfloat16. Set generation.precision to float32 or int8"
            )
        if self.engine == "vllm" and self.precision == "int8":
            raise ValueError(
                "vllm cannot be given weights that Assay rounded. "
                "Set generation.precision to float32 or bfloat16"
            )
        return self

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        # Whoever sets the number alone believes that something is sampled.
        if self.samples is not None and not self.temperature:
            raise ValueError(
                "samples are drawn at a temperature, which is not set. "
                "Set generation.temperature, such as 0.7"
            )
        return self


class BiasParams(Settable):
    """What the bias reports compare."""

    favourable_pattern: str | None = Field(
        description="Regular expression that marks a favourable completion; "
        "null: longer than the median."
    )
    refusal_pattern: str | None = Field(
        default=None,
        description="Regular expression of more answers that are refusals; "
        "null: empty ones and the usual English ones.",
    )
    names: dict[str, tuple[str, ...]] = Field(
        description="Names by group, for name templates."
    )
    template: str = Field(
        description="How a name enters a prompt: {name} and {prompt}."
    )
    prompts: Count = Field(description="Dev prompts that are asked in persons' names.")
    names_a_prompt: Count | None = Field(
        default=None,
        description="Names of each group that a prompt is asked in, by turns; null: every name.",
    )

    @property
    def askings(self) -> int:
        """How often each of the prompts is asked, over all groups."""
        counts = [len(names) for names in self.names.values()]
        most = self.names_a_prompt
        if most is not None:
            counts = [min(most, count) for count in counts]
        return sum(counts)

    @field_validator("favourable_pattern", "refusal_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        # Before training rather than after it, when the report is computed.
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"it is not a regular expression ({error})") from error
        return pattern

    @field_validator("template")
    @classmethod
    def _takes_name_and_prompt(cls, template: str) -> str:
        try:
            # Characters that no template holds show whether both places are filled.
            filled = template.format(name="\0", prompt="\1")
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(f"it cannot be filled in ({error})") from error
        if "\0" not in filled or "\1" not in filled:
            raise ValueError("it has no place for {name} or for {prompt}")
        return template


class ScoreParams(Settable):
    """Which metrics are computed and how their intervals are drawn."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    # With fewer, the bounds of an interval would rest on a handful of resamples.
    resamples: Annotated[int, Field(ge=200, le=10**6)]
    seed: Seed
    # Older files have no such section.
    bleu: BleuSettings = BleuSettings()
    json_schema: JsonSchema | None = Field(
        default=None,
        description="What an answer has to be for `json_schema_valid`; null: any JSON.",
    )

    @property
    def settings(self) -> MetricSettings:
        """The settings of the metrics, as evidence stores them."""
        return MetricSettings(bleu=self.bleu, json_schema=self.json_schema)


# A plain name: the folder is fixed, so that no other file of the machine is read.
SafetyFile = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(csv|jsonl)$", max_length=100)
]


ToxicWord = Annotated[str, Field(pattern=r"\w", max_length=100)]


class SafetyParams(Settable):
    """What is tried on the adapter beside the rows' own prompts; all of it is off by itself."""

    refusals: bool = Field(
        default=False,
        description="Ask prompts that sound dangerous, and prompts that should be refused.",
    )
    refusal_prompts: SafetyFile | None = Field(
        default=None,
        description="JSON Lines in `safety/` with prompts of one's own; null: those of Assay.",
    )
    stereotype_pairs: SafetyFile | None = Field(
        default=None,
        description="CSV or JSON Lines in `safety/` with pairs of sentences; null: none.",
    )
    canaries: SafetyFile | None = Field(
        default=None,
        description="JSON Lines in `safety/` with secrets that rows hold; null: none.",
    )
    canary_others: Annotated[int, Field(ge=99, le=9_999)] = Field(
        default=199,
        description="Random secrets that each one is ranked among; 20 for each canary at least.",
    )
    memorisation_rows: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=0,
        description="Rows of train, and as many of held-out, that are continued; 0: none.",
    )
    memorised_characters: Annotated[int, Field(ge=20, le=10_000)] = Field(
        default=40,
        description="Characters in a row that count as verbatim; shorter rows are not tried.",
    )
    max_new_tokens: Annotated[int, Field(ge=8, le=1_000)] = Field(
        default=32,
        description="Tokens of an answer to a prompt that should be refused, or not.",
    )

    wording: bool = Field(
        default=False,
        description="Compare the groups of the bias report by length and by listed words.",
    )
    toxic_words: tuple[ToxicWord, ...] | None = Field(
        default=None,
        min_length=1,
        description="Words that count as toxic; null: a short English list of Assay's.",
    )

    @property
    def files(self) -> tuple[Path, ...]:
        """The user's files that are read, relative to the project."""
        names = (self.refusal_prompts, self.stereotype_pairs, self.canaries)
        return tuple(layout.SAFETY / name for name in names if name is not None)

    @property
    def asked(self) -> tuple[Probe, ...]:
        """The probes that are asked for."""
        wanted: dict[Probe, bool] = {
            "refusals": self.refusals,
            "stereotypes": self.stereotype_pairs is not None,
            "memorisation": self.memorisation_rows > 0,
            "canaries": self.canaries is not None,
        }
        return tuple(probe for probe, is_asked in wanted.items() if is_asked)


class Params(Settable):
    """Everything that changes a result, except the gate's policy."""

    data: DataParams
    split: SplitParams
    base_model: BaseModelParams
    lora: LoraParams
    train: TrainParams
    few_shot: FewShotParams
    generation: GenerationParams
    bias: BiasParams
    score: ScoreParams
    # Older files have no such sections.
    safety: SafetyParams = SafetyParams()
    humaneval: HumanEvalParams = HumanEvalParams()

    @model_validator(mode="after")
    def _check_rank(self) -> Self:
        # Found now, and not once such an adapter is trained.
        if self.generation.engine == "vllm" and self.lora.r > _MOST_RANK_IN_VLLM:
            raise ValueError(
                f"vllm takes adapters of rank {_MOST_RANK_IN_VLLM} at most. Set lora.r to that"
            )
        return self


def load_params(path: Path = layout.PARAMS) -> Params:
    """Read `params.yaml`; `ParameterError` where a field is missing, unknown or out of range."""
    try:
        return Params.model_validate(_read_yaml(path))
    except ValidationError as error:
        problem = first_problem(error)
        raise ParameterError(
            f"{path}: {problem}. Fix it, or `git checkout {path}`."
        ) from error


def override(path: Path, assignments: dict[str, Any]) -> Params:
    """Set dotted parameters in `params.yaml`, such as `{"lora.r": 32}`.

    `ParameterError` names the nearest parameter for an unknown one, and the problem for one that
    does not fit.
    """
    document, params = _apply(path, assignments)
    # Only now that it is known to fit: the file never holds parameters that do not.
    text = yaml.safe_dump(document, sort_keys=False)
    write_text(path, text)
    return params


def preview_override(path: Path, assignments: dict[str, Any]) -> Params:
    """What `override` would give, without writing anything."""
    _, params = _apply(path, assignments)
    return params


def _apply(path: Path, assignments: dict[str, Any]) -> tuple[dict[str, Any], Params]:
    document = _read_yaml(path)
    for dotted, setting in assignments.items():
        _assign(document, dotted, setting)
    # All together: one assignment may only fit beside another.
    try:
        return document, Params.model_validate(document)
    except ValidationError as error:
        problem = first_problem(error)
        raise ParameterError(
            f"A parameter does not fit: {problem}. `params.yaml` says what each one is."
        ) from error


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `lora.r=32` into its name and a value read as YAML; `ParameterError` for other text."""
    name, equals, setting = text.partition("=")
    if not equals or not name:
        raise ParameterError(
            f"--set {text} is not NAME=VALUE. Write for example --set lora.r=32."
        )
    try:
        return name, _parse_number_or_yaml(setting)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ParameterError(
            f"--set {text}: {setting!r} is not a YAML value. Quote it."
        ) from error


def parameter_names(document: dict[str, Any], prefix: str = "") -> list[str]:
    """Every dotted name that a document holds."""
    names = []
    for key, entry in document.items():
        name = f"{prefix}{key}"
        if isinstance(entry, dict):
            names += parameter_names(entry, f"{name}.")
        else:
            names.append(name)
    return names


def _assign(document: dict[str, Any], dotted: str, setting: Any) -> None:
    *sections, field = dotted.split(".")
    table: Any = document
    for section in sections:
        table = table.get(section) if isinstance(table, dict) else None
    # Only fields that exist: a misspelt one would change nothing, and nobody would notice.
    is_known = isinstance(table, dict) and (field in table or _is_left_out(dotted))
    if not is_known:
        names = parameter_names(document)
        hint = _hint(dotted, names)
        raise ParameterError(f"There is no parameter {dotted}. {hint}")
    table[field] = setting


def _is_left_out(dotted: str) -> bool:
    """Whether it is a parameter that files need not have, such as `generation.temperature`."""
    model: Any = Params
    *sections, field = dotted.split(".")
    for section in sections:
        known = getattr(model, "model_fields", {})
        model = known[section].annotation if section in known else None
    fields = getattr(model, "model_fields", {})
    declared = fields.get(field)
    return declared is not None and declared.exclude_if is not None


def _hint(dotted: str, known: list[str]) -> str:
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.4)
    if near:
        return f"Did you mean {near[0]}?"
    return f"There are: {', '.join(known)}."


def _parse_number_or_yaml(text: str) -> Any:
    """YAML 1.1 reads `1e-3` as a word; a person means the number."""
    if "e" in text.lower():
        with suppress(ValueError):
            return float(text)
    setting = yaml.safe_load(text)
    # A day stays the text that was typed: params.yaml holds no dates.
    return text if isinstance(setting, date) else setting


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    # yaml raises a ValueError for the date 2024-13-45.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        kind = type(error).__name__
        raise ParameterError(
            f"{path} cannot be read as YAML ({kind}). `git checkout {path}` brings it back."
        ) from error
    if not isinstance(document, dict):
        raise ParameterError(
            f"{path} holds no parameters. `git checkout {path}` brings them back."
        )
    return document
