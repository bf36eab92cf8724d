"""Two-layer head."""

from torch import Tensor, nn

from mtl.models.dropout import make_dropout
from mtl.models.heads.checks import check_vectors, vector_width
from mtl.validation import check_count


class MLPHead(nn.Module):
    """Features (B, in_features) -> linear -> ReLU -> dropout -> linear -> (B, num_outputs).

    The head of the released code of Sener and Koltun 2018 (50 -> 50 -> 10, 3,060 parameters); their section 4.1 speaks
    of "two fully-connected layers", their Figure 5 shows one.

    Args:
        in_features: Width of the features.
        num_outputs: Outputs of the task.
        output_size: None; a dense task is refused.
        hidden_features: Width between the layers, at least 1; 50 in the released code.
        dropout: `none`, `standard`, or `released_code` (one unscaled mask per batch).
        dropout_rate: Probability of dropping a unit; 0.5 in the released code.
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        num_outputs: int,
        output_size: tuple[int, int] | None = None,
        hidden_features: int = 50,
        dropout: str = "none",
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        check_count("hidden_features", hidden_features)
        self.hidden = nn.Linear(vector_width("mlp", in_features, output_size), hidden_features)
        self.dropout = make_dropout(dropout, dropout_rate, channels=False)
        self.output = nn.Linear(hidden_features, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) -> (B, num_outputs)."""
        check_vectors("mlp", features)
        logits: Tensor = self.output(self.dropout(self.hidden(features).relu()))
        return logits
