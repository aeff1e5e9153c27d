"""What was seen of a base model that was asked a dozen prompts."""

from core.value import Value


class Conformance(Value):
    """What was seen of a base model with its encoder."""

    base_id: str
    template_notes: tuple[str, ...]
    example: str
    end_tokens: tuple[str, ...]
    ends_are_written: bool
    bos_tokens: int
    context_tokens: int
    batching: str
    asked: int
    largest_loss_difference: float
    ended: int
    new_tokens: int

    @property
    def text(self) -> str:
        """Give a line for each thing, for people."""
        lines = [
            ("prompt", self._prompt),
            ("ends", self._ends),
            ("context", f"{self.context_tokens:,} tokens"),
            ("batches", self._batches),
            ("answers", self._answers),
        ]
        return "\n".join(f"  {name:9} {text}" for name, text in lines)

    @property
    def _prompt(self) -> str:
        shown = self.example.replace("\n", "⏎")
        if len(shown) > 300:
            shown = f"{shown[:150]} … {shown[-150:]}"
        notes = "".join(f"; {note}" for note in self.template_notes)
        beginning = f"beginning-of-sequence tokens in front: {self.bos_tokens}"
        return f"{shown}\n            {beginning}{notes}"

    @property
    def _ends(self) -> str:
        names = ", ".join(self.end_tokens)
        if self.ends_are_written:
            return f"{names}; the first one is the template's"
        return f"{names}; the first one is put behind each answer in training"

    @property
    def _batches(self) -> str:
        losses = "losses equal to those alone"
        if self.largest_loss_difference:
            losses = f"losses within {self.largest_loss_difference:.1g} of those alone"
        # Otherwise the base was refused.
        answers = f"all {self.asked} answers as alone"
        return f"{self.batching}; {answers}, {losses}"

    @property
    def _answers(self) -> str:
        text = f"{self.ended} of {self.asked} end by themselves in {self.new_tokens} tokens"
        if self.ended:
            return text
        return (
            f"{text}: either they are longer, or the base never ends an answer, and its "
            "scores are those of texts that the token limit cut"
        )
