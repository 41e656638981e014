"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering, F(4x4, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308): a tile of 4x4 outputs is

    Y = A^T [(G g G^T) * (B^T d B)] A

of the 3x3 kernel g and the 6x6 inputs d. The brackets multiply 36 values, the "points", for each pair of channels,
where the convolution itself has 144 products. Over all tiles that makes 36 products of matrices.

At 832x1344 on two cores of an AMD EPYC with AVX-512, P2's convolution takes 226 ms instead of 404, its gradients 437
instead of 931; together with RoIAlign compiled by XLA, inference takes 2.16 s instead of 3.05 and a training step 5.14
instead of 6.51 (docs/performance.md).

Legend: B images, H x W locations, C channels in, D channels out; a strip has T tiles.
"""

import numpy as np
from keras import ops

from maskrcnn.ops.fast.kernel_gradient import with_gradients
from maskrcnn.ops.typing import Float, Int, Size, Tensor
from maskrcnn.runtime import compiler

Map = Float[Tensor, "B H W C"]
Kernel = Float[Tensor, "3 3 C D"]

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


def convolve3x3(inputs: Map, kernel: Kernel) -> Float[Tensor, "B H W D"]:
    """A 3x3 convolution of stride 1 with zero padding, in float32.

    The result and its gradients are `keras.ops.conv`'s but for rounding.
    """
    return with_gradients(_convolve, _kernel_gradient, inputs, kernel)


@compiler.trace_once
def _convolve(inputs: Map, kernel: Kernel) -> Float[Tensor, "B H W D"]:
    batch, height, width, _ = ops.shape(inputs)
    channels, filters = kernel.shape[2:]
    kernel = _multiply(_KERNEL, ops.reshape(kernel, (9, channels, filters)))
    strips = _Strips(inputs)
    padded = strips.pad(inputs, margin=1)

    def convolve_strip(index: Size) -> Float[Tensor, "maps rows 4 columns 4 D"]:
        points = _multiply(_INPUTS, strips.tiles(padded, index, side=6))
        return strips.untile(_multiply(_OUTPUTS, ops.matmul(points, kernel)))

    outputs = strips.join(compiler.sequential_map(convolve_strip, strips.count))
    return outputs[:batch, :height, :width]


@compiler.trace_once
def _kernel_gradient(inputs: Map, upstream: Float[Tensor, "B H W D"]) -> Kernel:
    """The kernel's gradient, from the inputs and the gradient of the outputs."""
    strips = _Strips(inputs)
    inputs, upstream = strips.pad(inputs, margin=1), strips.pad(upstream, margin=0)

    def strip_gradient(index: Size) -> Float[Tensor, "36 C D"]:
        points = _multiply(_INPUTS, strips.tiles(inputs, index, side=6))
        gradients = _multiply(_OUTPUTS.T, strips.tiles(upstream, index, side=TILE))
        return ops.einsum("ptc,ptd->pcd", points, gradients)

    def add_strip(index: Size, total: Float[Tensor, "36 C D"]) -> Float[Tensor, "36 C D"]:
        # One after the other: TensorFlow would work on ten at once, with the memory of ten.
        return total + strip_gradient(compiler.with_control_dependency(index, total))

    # The first strip by itself: TensorFlow would keep a table of zeros for good.
    total = ops.fori_loop(1, strips.count, add_strip, strip_gradient(0))
    return ops.reshape(_multiply(_KERNEL.T, total), (3, 3, *total.shape[1:]))


def _multiply(matrix: Float[np.ndarray, "P K"], values: Float[Tensor, "K N C"]) -> Float[Tensor, "P N C"]:
    rows = ops.matmul(ops.convert_to_tensor(matrix, "float32"), ops.reshape(values, (matrix.shape[1], -1)))
    return ops.reshape(rows, (matrix.shape[0], -1, values.shape[-1]))


class _Strips:
    """A division of maps into strips of about ``STRIP`` tiles: some rows of tiles of one map, or several small maps."""

    def __init__(self, maps: Map):
        batch, height, width, _ = ops.shape(maps)
        rows, self.columns = -(-height // TILE), -(-width // TILE)  # of tiles
        self.groups, self.maps = _divide(batch, STRIP // (rows * self.columns))  # of maps, and maps of a strip
        self.parts, self.rows = _divide(rows, STRIP // self.columns)  # of a map, and rows of a strip
        self.count = self.groups * self.parts

    def pad(self, maps: Map, *, margin: int) -> Map:
        """Zeros around each map and after the last one, so that all strips are alike."""
        batch, height, width, _ = ops.shape(maps)
        below = self.parts * self.rows * TILE - height + margin
        right = self.columns * TILE - width + margin
        return ops.pad(maps, ((0, self.groups * self.maps - batch), (margin, below), (margin, right), (0, 0)))

    def tiles(self, padded: Map, index: Size, *, side: int) -> Float[Tensor, "side^2 T C"]:
        """The values of padded maps that the tiles of a strip read, side x side from each tile's first location on.

        Tiles are ordered by map, row, column.
        """
        height, width = ops.shape(padded)[1:3]
        maps = index // self.parts * self.maps + _range(self.maps)
        rows = index % self.parts * self.rows + _range(self.rows)
        first = (maps[:, None, None] * height + rows[:, None] * TILE) * width + _range(self.columns) * TILE
        others = _range(side)[:, None] * width + _range(side)
        locations = ops.reshape(others, (-1, 1)) + ops.reshape(first, (-1,))
        return ops.take(ops.reshape(padded, (-1, padded.shape[-1])), locations, axis=0)

    def untile(self, tiles: Float[Tensor, "16 T D"]) -> Float[Tensor, "maps rows 4 columns 4 D"]:
        """The outputs of a strip in the order of its maps."""
        tiles = ops.reshape(tiles, (TILE, TILE, self.maps, self.rows, self.columns, tiles.shape[-1]))
        return ops.transpose(tiles, (2, 3, 0, 4, 1, 5))

    def join(self, strips: Float[Tensor, "strips maps rows 4 columns 4 D"]) -> Map:
        """All strips as maps, with their padding."""
        height, width = self.parts * self.rows * TILE, self.columns * TILE
        return ops.reshape(strips, (self.groups * self.maps, height, width, strips.shape[-1]))


def _divide(items: Size, size: Size) -> tuple[Size, Size]:
    """The number of equal parts of at most ``size`` items (one at least), and the number of items in each."""
    parts = -(-items // (max(size, 1) if isinstance(size, int) else ops.maximum(size, 1)))
    return parts, -(-items // parts)


def _range(count: Size) -> Int[Tensor, " count"]:
    return ops.arange(count, dtype="int32")
