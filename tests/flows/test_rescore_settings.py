"""A champion is scored again as it was scored, whatever the parameters say today."""

from pathlib import Path

import pytest
import yaml

from flows.rescore import _as_trained
from flows.run.request import TrainRequest
from pipelines.values.params import preview_override
from tests.support import trials


def packed_params(folder: Path, section: dict[str, object] | None) -> TrainRequest:
    """The request that scores a champion again whose parameters had this section for BLEU."""
    document = yaml.safe_load(trials.PARAMS.read_text(encoding="utf-8"))
    del document["score"]["bleu"]
    if section is not None:
        document["score"]["bleu"] = section
    text = yaml.safe_dump(document)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return _as_trained(TrainRequest(settings={"score.seed": 3}), folder)


def test_a_champion_keeps_its_tokenizer_and_what_else_was_asked_for(
    tmp_path: Path,
) -> None:
    section = {"tokenize": "zh", "effective_order": True}
    settings = packed_params(tmp_path, section).settings
    assert settings["score.bleu.tokenize"] == "zh"
    assert settings["score.bleu.effective_order"] is True
    assert settings["score.seed"] == 3
    assert "score.resamples" not in settings


def test_a_champion_from_before_there_was_a_choice_is_scored_under_todays(
    tmp_path: Path,
) -> None:
    settings = packed_params(tmp_path, None).settings
    assert not any(name.startswith("score.bleu") for name in settings)


@pytest.mark.parametrize(
    ("own", "today"),
    [
        ("transformers", "openvino"),
        ("openvino", "transformers"),
        ("openvino", "openvino"),
    ],
)
def test_a_champion_is_scored_again_in_the_engine_that_its_users_get(
    tmp_path: Path, own: str, today: str
) -> None:
    document = yaml.safe_load(trials.PARAMS.read_text(encoding="utf-8"))
    todays_file = tmp_path / "today.yaml"
    for path, engine in (
        (tmp_path / "params.yaml", own),
        (todays_file, today),
    ):
        document["generation"].pop("engine", None)
        # A file that says nothing means the usual one.
        if engine != "transformers":
            document["generation"]["engine"] = engine
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
    settings = _as_trained(TrainRequest(), tmp_path).settings
    assert preview_override(todays_file, settings).generation.engine == own
