"""Quantized tables: rows as codes into codebooks that are trained with the model.

product: the row is cut into M parts, each the nearest of C codewords (Jegou et al., TPAMI 2011;
trained end to end: Chen et al., Differentiable Product Quantization, ICML 2020).
residual: the sum of M full-length codewords, each the nearest to what the former ones left over
(Lee et al., RQ-VAE, CVPR 2022).

Codebooks do not collapse because a codeword is never learned alone: it is a fixed random vector
times a learned matrix, so a step that uses one codeword moves all of them (SimVQ: Zhu et al., ICCV
2025). Gradients go straight through the choice of the codeword to the full-precision row behind it
(van den Oord et al., NeurIPS 2017); `penalty` holds rows and codewords together.

Training keeps that full-precision row, and its moments, for every index: what gets smaller is the
table that is served (`nbytes`), not the training.

Shape legend: N indices, M codes a row, C codewords of a book, d = D / M (product) or D (residual)
coordinates of one, B rows requested.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError
from recsys.tables.plain.lookup import distinct

_BLOCK = 1 << 12
_MEAN_SIZE = 0.8
"""Mean of |x| of a standard normal x."""


class QuantizedConfig(StrictModel):
    """Options of a quantized table."""

    name: Literal["quantized"] = "quantized"
    method: Literal["product", "residual"] = "product"
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes that are served over those of a dense table, at most."""
    max_codes: int = Field(default=16, ge=1)
    """residual: M is no more than this; lookups cost a search for each."""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of the penalty on rows that are far from their codewords."""


class QuantizedTable(nn.Module):
    """Full-precision rows in training, and the codebooks that replace them afterwards."""

    frozen: Tensor

    def __init__(
        self, config: QuantizedConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share is too small."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.num_codes, self.num_words = self._layout(config.share)
        width = embedding_dim // self.num_codes if config.method == "product" else embedding_dim
        self.weight = nn.Parameter(torch.randn(num_rows, embedding_dim) * init_std)
        frozen, scale = torch.randn(self.num_codes, self.num_words, width), init_std
        if config.method == "residual":
            # A step of the optimizer changes every number of a matrix by about the learning rate,
            # so a coordinate of a word by up to 0.8 D times that: words would leave their rows
            # behind within a few steps. With a matrix that much larger, and words that much
            # smaller, a word moves as its rows do.
            scale = _MEAN_SIZE * embedding_dim * init_std
            frozen *= self._lengths() * init_std / scale
        self.register_buffer("frozen", frozen)
        self.basis = nn.Parameter(torch.eye(width).repeat(self.num_codes, 1, 1) * scale)
        self._penalty: Tensor | None = None

    def _lengths(self) -> Tensor:
        """`[M, 1, 1]` lengths of the first codewords of each book, over those of the rows.

        The nearest of C random words has a cosine of about sqrt(2 ln C / D) with a row: words any
        longer than that leave over more than there was, and the sum of them is noise.
        """
        share = min(1.0, 2.0 * math.log(self.num_words) / self.embedding_dim)
        levels = torch.arange(self.num_codes)[:, None, None]
        return math.sqrt(share) * max(1.0 - share, 0.5) ** (levels / 2)

    def _layout(self, share: float) -> tuple[int, int]:
        """`(M, C)`: the layout of most bits a row whose codes and codebooks fit into the share.

        Raises:
            ConfigError: none fits.
        """
        room = share * 4 * self.num_rows * self.embedding_dim
        limit = self.embedding_dim if self.config.method == "product" else self.config.max_codes
        layouts = [
            (count, words)
            for words in (256, 16)
            for count in range(1, limit + 1)
            if (self.config.method == "residual" or self.embedding_dim % count == 0)
            and self._bytes(count, words) <= room
        ]
        if not layouts:
            raise ConfigError(
                f"table.share {share} of {self.num_rows} x {self.embedding_dim} holds no codebook "
                "of 16 words; raise it"
            )
        return max(layouts, key=lambda each: (each[0] * (each[1].bit_length() - 1), each[1]))

    def _bytes(self, count: int, words: int) -> int:
        """Codes, two to a byte where there are 16 words, and codebooks."""
        codes = count if words == 256 else -(-count // 2)
        books = 1 if self.config.method == "product" else count
        return self.num_rows * codes + 4 * words * self.embedding_dim * books

    def codebooks(self) -> Tensor:
        """`[M, C, d]`."""
        return torch.bmm(self.frozen, self.basis)

    def codes(self, rows: Tensor) -> Tensor:
        """The codes that are served, `[B]` -> `[B, M]`."""
        with torch.no_grad():
            return self._choose(self.weight[rows], self.codebooks())

    def _choose(self, values: Tensor, books: Tensor) -> Tensor:
        """`[B, D]` and `[M, C, d]` -> `[B, M]`: the nearest codeword of every book."""
        norms = books.square().sum(2)  # [M, C]
        if self.config.method == "product":
            parts = values.view(len(values), self.num_codes, -1).transpose(0, 1)
            found = torch.baddbmm(norms[:, None], parts, books.transpose(1, 2), alpha=-2.0)
            return found.argmin(2).T
        left, chosen = values.clone(), []
        for book, norm in zip(books, norms, strict=True):
            chosen.append(torch.addmm(norm, left, book.T, alpha=-2.0).argmin(1))
            left -= book[chosen[-1]]
        return torch.stack(chosen, dim=1)

    def _words(self, books: Tensor, codes: Tensor) -> Tensor:
        """`[M, C, d]`, `[B, M]` -> `[B, D]`: what the codes stand for."""
        offsets = torch.arange(self.num_codes, device=codes.device) * self.num_words
        words = nn.functional.embedding(codes + offsets, books.flatten(0, 1))  # [B, M, d]
        return words.flatten(1) if self.config.method == "product" else words.sum(1)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:  # noqa: ARG002
        """See `EmbeddingTable`; the gradient is dense."""
        unique, place, real = distinct(rows)
        found = self._quantized(unique, real)
        return found[:, :size][place]

    def _quantized(self, rows: Tensor, real: Tensor | None = None) -> Tensor:
        """`[B]` unique -> `[B, D]`; `real [B]`: which of them count in the penalty; None: all."""
        books = self.codebooks()
        values = nn.functional.embedding(rows, self.weight)
        with torch.no_grad():
            codes = torch.cat([self._choose(part, books) for part in values.split(_BLOCK)])
        words = self._words(books, codes)
        if not torch.is_grad_enabled():
            return words
        if self.training:
            towards = _mean((words - values.detach()).square().sum(1), real)
            back = _mean((values - words.detach()).square().sum(1), real)
            self._penalty = towards + self.config.commitment * back
        return words.detach() + values - values.detach()

    def penalty(self) -> Tensor | None:
        """See `Penalized`."""
        found, self._penalty = self._penalty, None
        return found

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self._quantized(torch.arange(self.num_rows, device=self.weight.device))

    @property
    def nbytes(self) -> int:
        """N M (or N M / 2 where books have 16 words), and 4 C D or 4 M C D of codebooks."""
        return self._bytes(self.num_codes, self.num_words)


def _mean(values: Tensor, real: Tensor | None) -> Tensor:
    """Of `values [B]` those that are real; None: all."""
    return values.mean() if real is None else (values * real).sum() / real.sum()
