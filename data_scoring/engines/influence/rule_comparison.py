"""Whether the rules for per-sample gradients are right for a model: compared with autograd on a few samples."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from data_common.models.traits import special_ids, traits

Rows = slice | torch.Tensor  # of a parameter along its first dimension


def tried(model: torch.nn.Module, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The documents by which rules are compared: the examples, and some that hold every special token of the model.

    Padding, for one, may stand in a text, and embeddings have no gradient there.
    """
    length = (max if traits(model).mixed_lengths else min)(map(len, examples))
    special = special_ids(model)
    usual = next((int(token) for token in examples[0] if token not in special), 0)
    documents = [example[:length] for example in examples]
    for first in range(0, len(special), length // 2):
        made = [token for one in special[first : first + length // 2] for token in (one, usual)]
        documents.append(np.array(made + [usual] * (length - len(made))))
    # As many samples as tokens would be read in two batches, as then it is not clear which dimension is which.
    return [*documents, documents[0]] if len(documents) == max(map(len, documents)) else documents


class Comparison:
    """Gradients of a few samples as rules give them, beside what autograd gives for each of the samples alone."""

    def __init__(self, alone: Iterable[Sequence[torch.Tensor]]):
        """alone: of each sample, its gradient at each parameter."""
        norms: list[torch.Tensor] = []
        for gradients in alone:
            norms.append(torch.stack([gradient.norm().double() for gradient in gradients]))
            if len(norms) == 1:
                self.wanted = [gradient.clone() for gradient in gradients]
            else:
                for total, gradient in zip(self.wanted, gradients, strict=True):
                    total += gradient
        self.norms = torch.stack(norms, 1)  # (parameters, samples)
        self.begin()

    def begin(self) -> None:
        """Nothing is found yet."""
        self.found = [torch.zeros_like(gradient) for gradient in self.wanted]
        self.squares = torch.zeros_like(self.norms)

    def add(self, number: int, samples: slice, rows: Rows, gradient: torch.Tensor, squares: torch.Tensor) -> None:
        """These rows of one parameter's gradient, (samples, rows, ...), and their squared norms, (samples,)."""
        self.found[number][rows] += gradient.sum(0)
        self.squares[number, samples] += squares

    def wrong(self) -> set[int]:
        """Numbers of the parameters where the sum over the samples, or the norm of one of them, is another.

        A sum would do for dot products; the norm of a layer that is used twice needs both uses at once.
        """
        sizes = torch.stack([gradient.norm().double() for gradient in self.wanted])
        pairs = zip(self.wanted, self.found, strict=True)
        lost = torch.stack([(wanted - found).norm().double() for wanted, found in pairs])
        # Rounding alone can be all there is to a gradient that is zero in theory (of key biases, say).
        noise = 1e-6 * max(sizes.max(), self.norms.max())
        apart = (self.squares.sqrt() - self.norms).abs() > 1e-3 * self.norms + noise
        return set(((lost > 1e-3 * sizes + noise) | apart.any(1)).nonzero().flatten().tolist())
