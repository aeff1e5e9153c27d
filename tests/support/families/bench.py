"""A family's base model as Assay has it, beside what plain transformers says of it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.models.base_store import locate_base_model
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.stages.base_model import base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import BaseModelParams
from tests.support.families.family import Family
from tests.support.families.oracle import Oracle, consult
from tests.support.families.texts import user

if TYPE_CHECKING:
    from pipelines.models.chat import ChatEncoder

_DAY = re.compile(r"\d{1,2} [A-Z][a-z]+ \d{4}")
_CLOCK = re.compile(r"strftime_now\([^)]*\)")


@dataclass(frozen=True)
class Bench:
    """One family, loaded by Assay (`language`) and by plain transformers (`oracle`)."""

    family: Family
    folder: Path
    base: BaseModelManifest
    template: str | None
    language: LanguageModel
    oracle: Oracle

    @property
    def encoder(self) -> "ChatEncoder":
        """What makes tokens for training, scoring and serving."""
        return self.language.encoder

    def with_adapter(self, adapter: Path) -> "Bench":
        """The same base with an adapter, on both sides."""
        language = load_language_model(
            self.base, self.folder, self.template, "float32", adapter
        )
        oracle = _consult(self.family, self.folder, adapter)
        return replace(
            self, language=language, oracle=replace(oracle, options=self.oracle.options)
        )


def prepare(family: Family, root: Path) -> tuple[Path, BaseModelManifest, str | None]:
    """Write the family's base and run stage `base_model` on it: folder, manifest, template.

    `UnusableBaseModel` where the stage refuses it.
    """
    folder = root / family.name
    family.write(folder)
    asked = BaseModelParams(
        source="folder",
        id=family.name,
        path=str(folder),
        digest=None,
        chat_template=None,
        completion_mode=not family.has_template,
    )
    base, template = base_model(asked, root / "home")
    return locate_base_model(base, root / "home"), base, template


def set_up(family: Family, root: Path) -> Bench:
    """A family on both sides. `UnusableBaseModel` where Assay refuses it."""
    folder, base, template = prepare(family, root)
    language = load_language_model(base, folder, template, "float32")
    bench = Bench(
        family=family,
        folder=folder,
        base=base,
        template=template,
        language=language,
        oracle=_consult(family, folder),
    )
    return _on_the_same_day(bench) if family.is_dated else bench


def _consult(family: Family, folder: Path, adapter: Path | None = None) -> Oracle:
    return consult(
        folder,
        family.stops,
        has_template=family.has_template,
        options=family.options,
        adapter=adapter,
    )


def _on_the_same_day(bench: Bench) -> Bench:
    """Tell the family's own template the day on which Assay fixed it."""
    prompt = bench.encoder.prompt_ids((user("Which day is it?"),))
    shown = str(bench.encoder.tokenizer.decode(prompt))
    found = _DAY.search(shown)
    assert found is not None, f"The prompt shows no day: {shown}"
    template = str(bench.oracle.tokenizer.chat_template)
    dated = _CLOCK.sub(repr(found[0]), template)
    assert dated != template
    options = {**bench.family.options, "chat_template": dated}
    return replace(bench, oracle=replace(bench.oracle, options=options))
