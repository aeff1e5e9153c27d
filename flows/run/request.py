"""What a person or a schedule asks a training run for.

In the Prefect UI each field of the request is a field of the run form.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from core.errors import ParameterError, UnreadableData
from core.value import Value
from pipelines import layout
from pipelines.values.own_metric import BUILT_IN, own_metric_names
from pipelines.values.params import Params, load_params, preview_override
from registry.ledger.entries import MODEL_NAME

if TYPE_CHECKING:
    from pipelines.metrics import Metric

# Own texts are no shell commands, and answers to own prompts may be longer than one.
TEXT_TOKENS = 64
TEXT_METRICS = ("chrf", "bleu", "exact_match", "perplexity_per_token", "bits_per_byte")


class TrainRequest(Value):
    """What to train on what, and how to judge it.

    A field that is None stays as params.yaml and the default policy have it.
    """

    model: str = Field(
        default="cheat-smollm2",
        title="Model",
        description="Name of the registered model: letters, digits, dot, dash, underscore.",
        pattern=MODEL_NAME,
    )
    data: Path | None = Field(
        default=None,
        title="Data file",
        description=(
            "Own rows: JSON, CSV, Excel, Parquet, Arrow or a `datasets` folder, a path on the "
            "worker's machine. None: the `cheat` pairs."
        ),
    )
    licence: str = Field(
        default="LicenseRef-brought-by-user",
        title="Licence",
        description="SPDX identifier of the own rows' licence.",
        min_length=1,
    )
    held_out: Path | None = Field(
        default=None,
        title="Held-out file",
        description="A fixed set to be judged on. None: a share of the groups is held out.",
    )
    base_model: Path | None = Field(
        default=None,
        title="Base model folder",
        description=(
            "Folder of an own base model on the worker's machine. None: SmolLM2-135M-Instruct."
        ),
    )
    base_model_digest: str | None = Field(
        default=None,
        title="Base model digest",
        description="Digest that the folder must have. None: as it is now.",
    )
    chat_template: str | None = Field(
        default=None,
        title="Chat template",
        description="Text of a Jinja chat template, for a base model that has none.",
    )
    completion_mode: bool = Field(
        default=False,
        title="Completion mode",
        description="No chat template: the prompt, a line end, the completion.",
    )
    policy: Path | None = Field(
        default=None,
        title="Policy file",
        description="Gate policy on the worker's machine. None: registry/policies/default.yaml.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        title="Settings",
        description='Parameters of params.yaml by dotted name, as JSON: {"lora.r": 32}.',
    )

    @property
    def title(self) -> str:
        """Data and base in a few words: the name of the run."""
        data, base = "cheat", "SmolLM2-135M"
        if self.data:
            data = self.data.stem
        if self.base_model:
            base = self.base_model.name
        return f"{data} on {base}"

    def assignments(self) -> dict[str, Any]:
        """What the request says of parameters; explicit settings win.

        `overrides` adds what follows from it.
        """
        chosen: dict[str, Any] = {}
        if self.data is not None:
            chosen |= {"data.source": "file", "data.licence": self.licence}
        if self.base_model is not None:
            # An absolute path: the run works in another folder.
            folder = self.base_model.expanduser().resolve()
            chosen |= {
                "base_model.source": "folder",
                "base_model.id": folder.name,
                "base_model.path": str(folder),
                "base_model.digest": self.base_model_digest,
            }
        if self.chat_template is not None:
            chosen["base_model.chat_template"] = self.chat_template
        if self.completion_mode:
            chosen["base_model.completion_mode"] = True
        return chosen | self.settings


def overrides(request: TrainRequest, params_file: Path) -> dict[str, Any]:
    """The request as overrides of a `params.yaml`; `ParameterError` where that cannot be read.

    Own rows beside parameters of the demo's shell commands are judged as other texts are. Where
    the file names a metric of the project's own, its list of metrics is a choice, which stays.
    """
    chosen = request.assignments()
    params = load_params(params_file)
    if request.data is None or params.data.source != "cheat":
        return chosen
    texts: dict[str, Any] = {"generation.max_new_tokens": TEXT_TOKENS}
    if not own_metric_names(params.score.metrics):
        texts["score.metrics"] = list(TEXT_METRICS)
    return texts | chosen


def read_template_file(path: Path) -> str:
    """Read a chat template; `UnreadableData` where there is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableData(
            f"The chat template {path} cannot be read ({type(error).__name__}). "
            "Give a Jinja file in UTF-8."
        ) from error


def check_request(request: TrainRequest, params_file: Path) -> Params:
    """Give the parameters that the request amounts to, on top of a `params.yaml`.

    `ParameterError` where one does not exist or does not fit, where a metric is unknown, needs
    what is not installed or has a file that cannot be used, where the engine that is to score is
    not installed, or where the model's name belongs to its base: each would otherwise be found
    later, some of it after training.
    """
    from pipelines.metrics import described_metric
    from serving.load import name_of_base

    params = preview_override(params_file, overrides(request, params_file))
    # The base answers under this name, so a model of that name could never be released.
    if request.model == name_of_base(params.base_model.id):
        raise ParameterError(
            f"{request.model} is the name under which its base answers, so it could never be "
            "released. Give another with --model."
        )
    _check_tests_column(params)
    _check_engine(params)
    project = params_file.parent
    metrics = [
        described_metric(name, params.score.settings, project)
        for name in params.score.metrics
    ]
    own = [metric for metric in metrics if metric.name not in BUILT_IN]
    # Policies of other runs need not be there.
    if own:
        _check_scales(own, request.policy or project / layout.POLICY)
    return params


def _check_engine(params: Params) -> None:
    from pipelines.engines import NotTaken
    from pipelines.engines.installed import installed_version

    engine = params.generation.engine
    try:
        installed_version(engine)
    except NotTaken as reason:
        raise ParameterError(
            f"generation.engine is {engine}, and {reason}."
        ) from reason


def _check_tests_column(params: Params) -> None:
    has_column = bool(params.data.tests_column)
    if "unit_tests" in params.score.metrics and not has_column:
        raise ParameterError(
            "score.metrics has unit_tests, and data.tests_column is null. "
            "Name the column with --set data.tests_column=NAME."
        )


def _check_scales(own: "list[Metric]", policy: Path) -> None:
    """Refuse what the gate `screen` would reject whatever the adapter says."""
    from pipelines.gates.policy import load_policy

    scales = load_policy(policy).gates.screen.own_metrics
    for metric in own:
        scale = scales.get(metric.name)
        if scale == metric.scale:
            continue
        fact = "does not name it"
        if scale is not None:
            fact = f"goes by {scale:g}"
        raise ParameterError(
            f"{metric.name} has a scale of {metric.scale:g}, and the policy {policy} {fact}. "
            f"Write {{{metric.name}: {metric.scale:g}}} into screen.own_metrics there."
        )
