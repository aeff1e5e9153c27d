"""Ask adapter, base and champion the same questions, one after the other."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from core.settings import Settings
from pipelines import layout
from pipelines.models.adapter_files import check_adapter
from pipelines.models.comparator_bases import PlacedBase, base_of
from pipelines.models.language_model import LanguageModel
from pipelines.models.probes import Probed, Questions, ask, put_together
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion, read_comparators
from pipelines.values.evidence import Adapter
from pipelines.values.params import GenerationParams
from pipelines.values.safety import ProbedSystem, SafetyAnswers


class OpenModel(Protocol):
    """Loads a base with an adapter or without, for as long as it is asked."""

    def __call__(
        self, base: PlacedBase, params: GenerationParams, adapter: Path | None = None
    ) -> AbstractContextManager[LanguageModel]:
        """The model, in the engine that the parameters name."""
        ...


@dataclass(frozen=True)
class Trio:
    """Adapter, base and, where there is one, champion: who they are, and their weights in turn."""

    own: PlacedBase
    adapter: Adapter
    language: LanguageModel
    """The adapter's weights, which are loaded already."""
    champion: Champion | None
    params: GenerationParams
    open_model: OpenModel
    kept: Path | None = None
    """Where answers are on their way."""

    @classmethod
    def of(
        cls,
        own: PlacedBase,
        adapter: Adapter,
        language: LanguageModel,
        params: GenerationParams,
        open_model: OpenModel,
        kept: Path | None = None,
    ) -> Self:
        """With the champion that the run compares with."""
        comparators = dict(read_comparators())
        champion = comparators.get("champion")
        return cls(
            own,
            adapter,
            language,
            champion,
            params,
            open_model,
            kept,
        )

    @property
    def base(self) -> BaseModelManifest:
        """The base of the candidate."""
        return self.own.manifest

    @property
    def digests(self) -> dict[ProbedSystem, str | None]:
        """The digest of each one's adapter; the base has none."""
        found: dict[ProbedSystem, str | None] = {
            "adapter": self.adapter.sha256,
            "base": None,
        }
        champion = self.champion
        if champion is not None:
            served = champion.adapter
            found["champion"] = served.sha256
        return found

    def weights(self, system: ProbedSystem) -> str:
        """Which weights answer: a digest of the adapter, or of the base alone."""
        return self.digests[system] or self.base.digest

    @property
    def is_chat(self) -> bool:
        """Whether they are asked through a chat template."""
        language = self.language
        encoder = language.encoder
        template = encoder.chat
        return template is not None

    def languages(self) -> Iterator[tuple[ProbedSystem, LanguageModel]]:
        """Each one's weights, loaded when its turn comes, and given back when it is over."""
        yield "adapter", self.language
        with self.open_model(self.own, self.params) as base:
            yield "base", base
        if self.champion is not None:
            with self._open(self.champion) as champion:
                yield "champion", champion

    def _open(self, champion: Champion) -> AbstractContextManager[LanguageModel]:
        home = Settings().home
        adapter = champion.adapter
        # On the base of its own training, which may be another one.
        base = base_of("champion", adapter, self.own, home)
        folder = layout.CHAMPION / "champion"
        # Checked each time it is loaded: the folder may have changed since.
        check_adapter(folder, adapter, base.manifest)
        return self.open_model(base, champion.as_served(self.params), folder)


def ask_probes(trio: Trio, questions: Questions) -> SafetyAnswers:
    """What every system says to the probes of safety."""
    parts = (
        ask(Probed(system, language, trio.weights(system), trio.kept), questions)
        for system, language in trio.languages()
    )
    return put_together(parts, trio.digests, trio.base.digest)
