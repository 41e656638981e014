"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering, F(4x4, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308): a tile of 4x4 outputs is

    Y = A^T [(G g G^T) * (B^T d B)] A

of the 3x3 kernel g and the 6x6 inputs d. What the brackets multiply are 36 values, the "points", for each pair of
channels, where the convolution itself has 144 products. Over all tiles that makes 36 products of matrices.

Legend: B images, H x W cells, C channels in, D channels out; a strip has T tiles.
"""

from typing import Any

import numpy as np
from keras import ops

from maskrcnn.runtime import compiler

TILE = 4  # a tile's side in outputs
# Tiles whose points are held at once, 36 KB each for 256 channels: enough to occupy the processors, few enough to stay
# near their caches.
STRIP = 512

# Where the polynomials are evaluated, beside infinity. With sqrt(2) the largest error is near that of a plain
# convolution, with Lavin's 1 and 2 five times as large. Alam et al., "Winograd Convolution for Deep Neural Networks:
# Efficient Point Selection" (2022), choose points of this form: +-c, +-1/c.
_ROOTS = np.array([0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T [6, 6], G [6, 3] and A^T [4, 6] by the construction of Toom and Cook."""
    inputs, kernel, outputs = np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((TILE, 6))
    for index, root in enumerate(_ROOTS):
        others = np.delete(_ROOTS, index)
        inputs[index, :5] = np.poly(others)[::-1]  # the coefficients of the polynomial with these roots, rising
        kernel[index] = root ** np.arange(3) / np.prod(root - others)
        outputs[:, index] = root ** np.arange(TILE)
    inputs[5], kernel[5, 2], outputs[3, 5] = np.poly(_ROOTS)[::-1], 1.0, 1.0  # infinity
    return np.where(np.abs(inputs) < 1e-9, 0.0, inputs), kernel, outputs


# B^T d B is linear in d: one matrix of 36 rows, and 36 columns for the inputs of a tile. The others likewise.
_INPUTS, _KERNEL, _OUTPUTS = (np.kron(matrix, matrix) for matrix in _matrices())  # [36, 36], [36, 9], [16, 36]


def convolve3x3(inputs: Any, kernel: Any) -> Any:
    """A 3x3 convolution of stride 1 in a margin of zeros: float32 [B, H, W, C], [3, 3, C, D] -> [B, H, W, D].

    The result and its gradients are `keras.ops.conv`'s but for rounding.
    """

    @ops.custom_gradient
    def convolve(inputs: Any, kernel: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> tuple[Any, Any]:
            upstream = arguments[0] if upstream is None else upstream
            turned = ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2))
            of_inputs = _convolve(upstream, turned)
            return of_inputs, _kernel_gradient(inputs, compiler.with_control_dependency(upstream, of_inputs))

        return _convolve(inputs, kernel), gradient

    return convolve(inputs, kernel)


@compiler.trace_once
def _convolve(inputs: Any, kernel: Any) -> Any:
    batch, height, width, _ = ops.shape(inputs)
    channels, filters = kernel.shape[2:]
    kernel = _multiply(_KERNEL, ops.reshape(kernel, (9, channels, filters)))
    strips = _Strips(inputs)
    padded = strips.pad(inputs, margin=1)

    def outputs_of(index: Any) -> Any:
        points = _multiply(_INPUTS, strips.tiles(padded, index, side=6))
        return strips.untile(_multiply(_OUTPUTS, ops.matmul(points, kernel)))

    outputs = strips.join(compiler.sequential_map(outputs_of, strips.count))
    return outputs[:batch, :height, :width]


@compiler.trace_once
def _kernel_gradient(inputs: Any, upstream: Any) -> Any:
    """Of maps [B, H, W, C] and the outputs' gradient [B, H, W, D]: [3, 3, C, D]."""
    strips = _Strips(inputs)
    inputs, upstream = strips.pad(inputs, margin=1), strips.pad(upstream, margin=0)

    def of_strip(index: Any) -> Any:
        points = _multiply(_INPUTS, strips.tiles(inputs, index, side=6))
        gradients = _multiply(_OUTPUTS.T, strips.tiles(upstream, index, side=TILE))
        return ops.einsum("ptc,ptd->pcd", points, gradients)

    # The first strip by itself: TensorFlow would keep a table of zeros for good.
    total = ops.fori_loop(1, strips.count, lambda index, total: total + of_strip(index), of_strip(0))
    return ops.reshape(_multiply(_KERNEL.T, total), (3, 3, *total.shape[1:]))


def _multiply(matrix: np.ndarray, values: Any) -> Any:
    """[P, K] times [K, N, C] -> [P, N, C]."""
    rows = ops.matmul(ops.convert_to_tensor(matrix, "float32"), ops.reshape(values, (matrix.shape[1], -1)))
    return ops.reshape(rows, (matrix.shape[0], -1, values.shape[-1]))


class _Strips:
    """Maps [B, H, W, ..] in strips of about as many tiles: some rows of tiles of one map, or several small maps."""

    def __init__(self, maps: Any):
        batch, height, width, _ = ops.shape(maps)
        rows, self.columns = -(-height // TILE), -(-width // TILE)  # of tiles
        self.groups, self.maps = _share(batch, STRIP // (rows * self.columns))  # of maps, and maps of a strip
        self.parts, self.rows = _share(rows, STRIP // self.columns)  # of a map, and rows of a strip
        self.count = self.groups * self.parts

    def pad(self, maps: Any, *, margin: int) -> Any:
        """Zeros around each map and after the last one, so that all strips are alike."""
        batch, height, width, _ = ops.shape(maps)
        below = self.parts * self.rows * TILE - height + margin
        right = self.columns * TILE - width + margin
        return ops.pad(maps, ((0, self.groups * self.maps - batch), (margin, below), (margin, right), (0, 0)))

    def tiles(self, padded: Any, index: Any, *, side: int) -> Any:
        """What the tiles of a strip read from padded maps: the cells of side x side from each tile's first on.

        [side^2, T, C], tiles by map, row, column.
        """
        height, width = ops.shape(padded)[1:3]
        maps = index // self.parts * self.maps + _range(self.maps)
        rows = index % self.parts * self.rows + _range(self.rows)
        first = (maps[:, None, None] * height + rows[:, None] * TILE) * width + _range(self.columns) * TILE
        others = _range(side)[:, None] * width + _range(side)
        cells = ops.reshape(others, (-1, 1)) + ops.reshape(first, (-1,))
        return ops.take(ops.reshape(padded, (-1, padded.shape[-1])), cells, axis=0)

    def untile(self, tiles: Any) -> Any:
        """Outputs [16, T, D] -> [maps, rows, 4, columns, 4, D] of a strip."""
        tiles = ops.reshape(tiles, (TILE, TILE, self.maps, self.rows, self.columns, tiles.shape[-1]))
        return ops.transpose(tiles, (2, 3, 0, 4, 1, 5))

    def join(self, strips: Any) -> Any:
        """All strips as maps, with what was added to them."""
        height, width = self.parts * self.rows * TILE, self.columns * TILE
        return ops.reshape(strips, (self.groups * self.maps, height, width, strips.shape[-1]))


def _share(items: Any, size: Any) -> tuple[Any, Any]:
    """Into how many equal parts of at most ``size`` items, one at least, to divide them, and how many one has."""
    parts = -(-items // (max(size, 1) if isinstance(size, int) else ops.maximum(size, 1)))
    return parts, -(-items // parts)


def _range(count: Any) -> Any:
    return ops.arange(count, dtype="int32")
