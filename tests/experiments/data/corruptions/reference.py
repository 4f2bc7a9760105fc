"""Slow and obvious forms of the published corruptions, step by step, of one image at a time.

The steps and the numbers are those of the published code; what is random is taken from the same `Generators`, in its
order. Each oracle takes an image of levels from 0 to 255 and returns such levels, not yet rounded down.
"""

import io
import math
from collections.abc import Callable
from itertools import product

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.ndimage import zoom as scipy_zoom

from timm_lp.experiments.data.corruptions.textures import Generators

Oracle = Callable[[np.ndarray, Generators, int], np.ndarray]


def pictures(count: int = 3) -> np.ndarray:
    """Return images with smooth parts, edges, grey and black: `(count, 32, 32, 3)`, `uint8`."""
    down, across = np.mgrid[:32, :32]
    images = np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    images[:, :16] = np.stack([8 * down, 8 * across, 4 * (down + across)], axis=-1)[:16]
    images[:, 20:24, :8] = 0
    images[:, 20:24, 8:16] = 90
    images[:, 24:30, 4:20] = (250, 30, 60)
    return images


def levels(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Return an image with a corruption, its levels not yet rounded down."""
    return ORACLES[name](image, Generators(image[None], f"{name} {severity} "), severity)


def gaussian_noise(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    scale = [0.04, 0.06, 0.08, 0.09, 0.10][severity - 1]
    return np.clip(image / 255 + generators.normal((32, 32, 3))[0] * scale, 0, 1) * 255


def shot_noise(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    photons = [500, 250, 100, 75, 50][severity - 1]
    return np.clip(generators.poisson((image / 255 * photons)[None])[0] / photons, 0, 1) * 255


def impulse_noise(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    amount = [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]
    is_set, is_salt = generators.uniform(0, 1, (32, 32, 3))[0], generators.uniform(0, 1, (32, 32, 3))[0]
    made = image / 255
    for place in np.ndindex(made.shape):
        if is_set[place] <= amount:
            made[place] = 1 if is_salt[place] <= 0.5 else 0
    return made * 255


def speckle_noise(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    scale = [0.06, 0.1, 0.12, 0.16, 0.2][severity - 1]
    return np.clip(image / 255 + image / 255 * (generators.normal((32, 32, 3))[0] * scale), 0, 1) * 255


def gaussian_blur(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    return _blurred(image / 255, [0.4, 0.6, 0.7, 0.8, 1][severity - 1]) * 255


def glass_blur(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    """Visited from the last pixel to the first; what is said to be a swap copies the neighbour."""
    sigma, reach, rounds = [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)][severity - 1]
    made = (_blurred(image / 255, sigma) * 255).astype(np.uint8)
    for _ in range(rounds):
        moves = generators.integers(-reach, reach - 1, (30, 30, 2))[0]
        for row in range(32 - reach, reach, -1):
            for column in range(32 - reach, reach, -1):
                right, down = moves[row - 2, column - 2]
                made[row, column] = made[row + down, column + right]
    return _blurred(made / 255, sigma) * 255


def defocus_blur(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    """The disk lies in the middle of 17x17 pixels; images are mirrored on their edge pixels."""
    radius, sigma = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)][severity - 1]
    across, down = np.meshgrid(range(-8, 9), range(-8, 9))
    disk = (across**2 + down**2 <= radius**2).astype(np.float32)
    kernel, line = disk / disk.sum(), _gaussian(sigma, 1).astype(np.float32).astype(np.float64)
    for axis in (1, 0):
        kernel = np.apply_along_axis(np.convolve, axis, kernel, line, "same").astype(np.float32)
    return _convolved(image / 255, kernel, "reflect") * 255


def motion_blur(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    radius, sigma = [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)][severity - 1]
    return _moved(image, float(generators.uniform(-45, 45)[0]), radius, sigma)


def zoom_blur(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    factors = np.arange(1, [1.06, 1.11, 1.16, 1.21, 1.26][severity - 1], 0.01)
    single = (image / 255).astype(np.float32)
    total = np.zeros_like(single)
    for factor in factors:
        total += _zoomed(single, factor)
    return np.clip((single + total) / (len(factors) + 1), 0, 1) * 255


def snow(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    mean, std, factor, least, radius, sigma, share = [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ][severity - 1]
    layer = _zoomed((mean + std * generators.normal((32, 32))[0])[..., None], factor)
    layer = (np.clip(np.where(layer < least, 0, layer), 0, 1) * 255).astype(np.uint8)
    layer = _moved(layer, float(generators.uniform(-135, -45)[0]), radius, sigma) / 255
    single = image.astype(np.float32) / 255
    grey = sum(np.float32(weight) * single[..., [place]] for place, weight in enumerate((0.299, 0.587, 0.114)))
    made = share * single + (1 - share) * np.maximum(single, grey * 1.5 + 0.5)
    return np.clip(made + layer + layer[::-1, ::-1], 0, 1) * 255


def fog(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    amount, decay = [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)][severity - 1]
    brightest = image.max() / 255
    made = image / 255 + amount * plasma(generators.uniform(-1, 1, (32 * 32 - 1,))[0], 32, decay)[..., None]
    return np.clip(made * brightest / (brightest + amount), 0, 1) * 255


def plasma(noise: np.ndarray, size: int, decay: float) -> np.ndarray:
    """The diamond-square algorithm on a torus, cell by cell; noise is taken in the order in which points are set."""
    heights, left = np.zeros((size, size)), iter(noise)
    wibble, step = 100.0, size

    def mean(*points: tuple[int, int]) -> float:
        return sum(heights[row % size, column % size] for row, column in points) / 4

    while step > 1:
        half = step // 2
        cells = [(row, column) for row in range(0, size, step) for column in range(0, size, step)]
        for row, column in cells:
            corners = [(row + down, column + right) for down in (0, step) for right in (0, step)]
            heights[row + half, column + half] = mean(*corners) + wibble**2 * next(left)
        for first_down, first_right in ((0, half), (half, 0)):
            for row, column in cells:
                y, x = row + first_down, column + first_right
                four = ((y - half, x), (y + half, x), (y, x - half), (y, x + half))
                heights[y, x] = mean(*four) + wibble**2 * next(left)
        step, wibble = half, wibble / decay
    return (heights - heights.min()) / (heights.max() - heights.min())


def spatter(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    mean, std, sigma, least, amount, is_mud = [
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ][severity - 1]
    heights = _blurred((mean + std * generators.normal((32, 32))[0])[..., None], sigma)[..., 0]
    single = image.astype(np.float32) / 255
    if is_mud:
        cover = _blurred((heights > least)[..., None].astype(np.float32), amount)
        cover[cover < 0.8] = 0
        return (single * (1 - cover) + cover * np.array([63, 42, 20]) / 255) * 255
    drops = (np.where(heights < least, 0, heights) * 255).astype(np.int64) % 256
    nearest = np.minimum(_chamfer(canny(drops, 50, 150)), 20)
    relief = _equalized(_mean_of_nine(nearest).astype(np.uint8))
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = np.clip(_convolved(relief[..., None].astype(float), kernel, "reflect")[..., 0], 0, 255)
    shine = drops * np.rint(_mean_of_nine(relief))
    shine = (shine / shine.max()).astype(np.float32)[..., None] * amount
    return np.clip(single + shine * np.array([175, 238, 238]) / 255, 0, 1) * 255


def brightness(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    amount = [0.05, 0.1, 0.15, 0.2, 0.3][severity - 1]
    return _each_pixel(image, lambda h, s, v: (h, s, min(v + amount, 1)))


def saturate(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    factor, amount = [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)][severity - 1]
    return _each_pixel(image, lambda h, s, v: (h, min(max(s * factor + amount, 0), 1), v))


def contrast(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    means = np.mean(image / 255, axis=(0, 1), keepdims=True)
    return np.clip((image / 255 - means) * [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1] + means, 0, 1) * 255


def elastic_transform(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    """OpenCV's coordinates are whole numbers of 1/1024 pixel on the way, and of 1/32 at last."""
    amount, sigma, shift = [
        (32 * 0, 32 * 0, 32 * 0.08),
        (32 * 0.05, 32 * 0.2, 32 * 0.07),
        (32 * 0.08, 32 * 0.06, 32 * 0.06),
        (32 * 0.1, 32 * 0.04, 32 * 0.05),
        (32 * 0.1, 32 * 0.03, 32 * 0.03),
    ][severity - 1]
    before = np.array([[26, 26], [26, 6], [6, 6]], dtype=np.float64)
    after = before + generators.uniform(-shift, shift, (3, 2))[0].astype(np.float32)
    forth = np.linalg.solve(np.c_[before, np.ones(3)], after).T  # x' = a x + b y + c, and y' likewise
    back = np.linalg.inv(np.r_[forth, [[0, 0, 1]]])
    single = image.astype(np.float32) / 255
    moved = np.zeros_like(single)
    for row, column in product(range(32), repeat=2):
        x, y = (
            (round(1024 * a * column) + round(1024 * (b * row + c)) + 16 >> 5) / 32 for a, b, c in back[:2].tolist()
        )
        for above, left in product((0, 1), repeat=2):
            weight = (1 - abs(math.floor(y) + above - y)) * (1 - abs(math.floor(x) + left - x))
            pixel = single[_reflected(math.floor(y) + above), _reflected(math.floor(x) + left)]
            moved[row, column] += np.float32(weight) * pixel
    fields = generators.uniform(-1, 1, (2, 32, 32))[0]
    right, down = (
        (_blurred(field[..., None], sigma, 3, "reflect")[..., 0] * amount).astype(np.float32) for field in fields
    )
    rows, columns = np.mgrid[:32, :32]
    places = (rows + down, columns + right)
    return np.stack([map_coordinates(moved[..., c], places, order=1, mode="reflect") for c in range(3)], axis=-1) * 255


def pixelate(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    size = int(32 * [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1])

    def both_ways(channel: np.ndarray, to: int) -> np.ndarray:
        across = np.array([_box_line(line, to) for line in channel.tolist()])
        return np.array([_box_line(line, to) for line in across.T.tolist()]).T

    return np.stack([both_ways(both_ways(image[..., channel], size), 32) for channel in range(3)], axis=-1)


def jpeg_compression(image: np.ndarray, generators: Generators, severity: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=[80, 65, 58, 50, 40][severity - 1])
    return np.asarray(Image.open(file))


ORACLES: dict[str, Oracle] = {
    own.__name__: own
    for own in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise),
        *(gaussian_blur, glass_blur, defocus_blur, motion_blur, zoom_blur),
        *(snow, fog, spatter, brightness, saturate, contrast),
        *(elastic_transform, pixelate, jpeg_compression),
    )
}


def _gaussian(sigma: float, reach: int) -> np.ndarray:
    line = np.array([math.exp(-(place**2) / (2 * sigma**2)) for place in range(-reach, reach + 1)])
    return line / line.sum()


def gaussian_average(image: np.ndarray, sigma: float) -> np.ndarray:
    """Average each pixel's neighbours with a Gaussian, cut off at 4 standard deviations."""
    line = _gaussian(sigma, int(4 * sigma + 0.5))
    return _convolved(image, np.outer(line, line), "edge")


def _blurred(image: np.ndarray, sigma: float, truncate: float = 4, mode: str = "nearest") -> np.ndarray:
    """Blur each channel as scikit-image does, with SciPy: how it rounds decides where neighbours are alike."""
    channels = np.moveaxis(image, -1, 0)
    return np.stack([gaussian_filter(own, sigma, mode=mode, truncate=truncate) for own in channels], axis=-1)


def _convolved(image: np.ndarray, kernel: np.ndarray, beyond: str) -> np.ndarray:
    """Average each pixel's neighbours with weights; `beyond` says as `np.pad` does what lies outside."""
    height, width, _ = image.shape
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode=beyond)  # type: ignore[call-overload]
    made = np.zeros(image.shape)
    for down, right in np.ndindex(kernel.shape):
        made += kernel[down, right] * padded[down : down + height, right : right + width]
    return made


def _mean_of_nine(image: np.ndarray) -> np.ndarray:
    return _convolved(image[..., None], np.ones((3, 3)), "reflect")[..., 0] / 9


def _moved(image: np.ndarray, angle: float, radius: int, sigma: float) -> np.ndarray:
    """ImageMagick's motion blur of 2018; it computes with levels of 16 bits, and rounds to those of 8."""
    steps = range(2 * radius + 1)
    weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in steps]
    total = np.zeros(image.shape)
    for step, weight in zip(steps, weights, strict=True):
        down, right = (
            math.ceil(step * part - 0.5) for part in (math.sin(math.radians(angle)), math.cos(math.radians(angle)))
        )
        rows, columns = np.clip(np.arange(32) + down, 0, 31), np.clip(np.arange(32) + right, 0, 31)
        total += weight / sum(weights) * (257 * image[rows][:, columns].astype(np.float64))
    return np.rint(np.rint(total) / 257).astype(np.int64)


def _zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """Crop the middle, enlarge it with SciPy, and cut it to size."""
    kept = math.ceil(32 / factor)
    first = (32 - kept) // 2
    enlarged = scipy_zoom(image[first : first + kept, first : first + kept], (factor, factor, 1), order=1)
    trimmed = (len(enlarged) - 32) // 2
    return enlarged[trimmed : trimmed + 32, trimmed : trimmed + 32]


def _reflected(index: int) -> int:
    """Mirror on the edge pixel, which is not repeated."""
    return -index if index < 0 else 62 - index if index > 31 else index


def _each_pixel(image: np.ndarray, change: Callable[[float, float, float], tuple[float, float, float]]) -> np.ndarray:
    """Change hue, saturation and value of each pixel, in scikit-image's order of steps."""
    made = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        red, green, blue = (image[place] / 255).tolist()
        value, spread = max(red, green, blue), max(red, green, blue) - min(red, green, blue)
        hue = 0.0
        if spread:
            hue = (green - blue) / spread if value == red else hue
            hue = 2 + (blue - red) / spread if value == green else hue
            hue = 4 + (red - green) / spread if value == blue else hue
        h, s, v = change(hue / 6 % 1, spread / value if value else 0.0, value)
        sixth = math.floor(h * 6)
        part = h * 6 - sixth
        p, q, t = v * (1 - s), v * (1 - part * s), v * (1 - (1 - part) * s)
        made[place] = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][sixth]
    return np.clip(made, 0, 1) * 255


def canny(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Tell the pixels on an edge: crests of the slope above `low` that hang together with one above `high`."""
    height, width = image.shape
    kernel = np.outer([1, 2, 1], [-1, 0, 1])
    across, down = (_convolved(image[..., None].astype(float), own, "edge")[..., 0] for own in (kernel, kernel.T))
    slope = np.pad(np.abs(across) + np.abs(down), 1)
    crests = np.zeros((height, width), dtype=bool)
    for row, column in np.ndindex(height, width):
        x, y = across[row, column], down[row, column]
        middle = slope[row + 1, column + 1]
        if abs(y) < math.tan(math.pi / 8) * abs(x):
            before, behind, ties = slope[row + 1, column], slope[row + 1, column + 2], True
        elif abs(y) > math.tan(3 * math.pi / 8) * abs(x):
            before, behind, ties = slope[row, column + 1], slope[row + 2, column + 1], True
        else:
            side = -1 if x * y < 0 else 1
            before, behind, ties = slope[row, column + 1 - side], slope[row + 2, column + 1 + side], False
        crests[row, column] = middle > low and middle > before and (middle > behind or (ties and middle == behind))
    edges = crests & (slope[1:-1, 1:-1] > high)
    grown = True
    while grown:
        around = np.pad(edges, 1)
        near = sum(around[1 + a : 1 + a + height, 1 + b : 1 + b + width] for a in (-1, 0, 1) for b in (-1, 0, 1)) > 0
        grown = bool((crests & near & ~edges).any())
        edges = edges | (crests & near)
    return edges


def _chamfer(edges: np.ndarray) -> np.ndarray:
    """Return OpenCV's distance from the nearest edge: 1 beside, 1.4 across a corner, 2.1969 a knight's move."""
    beside, corner, knight = (round(length * 2**16) / 2**16 for length in (1, 1.4, 2.1969))
    nearest = np.full(edges.shape, np.inf)
    for row, column in np.argwhere(edges):
        down, right = (abs(np.arange(length) - place) for length, place in zip(edges.shape, (row, column), strict=True))
        near, far = np.minimum.outer(down, right), np.maximum.outer(down, right)
        steep = (2 * near - far) * corner + (far - near) * knight
        flat = near * knight + (far - 2 * near) * beside
        nearest = np.minimum(nearest, np.where(2 * near > far, steep, flat))
    return nearest


def _equalized(levels: np.ndarray) -> np.ndarray:
    """Spread levels evenly: the share of pixels above the darkest level that are no brighter."""
    above = np.count_nonzero(levels > levels.min())
    shares = [np.count_nonzero((levels <= level) & (levels > levels.min())) / max(above, 1) for level in range(256)]
    return np.rint(255 * np.array(shares))[levels] if above else levels


def _box_line(line: list[int], size: int) -> list[int]:
    """Resize a line of levels with a box filter, as Pillow does: the mean of the pixels whose centres it meets."""
    scale = len(line) / size
    support = 0.5 * max(scale, 1)
    resized = []
    for place in range(size):
        centre = (place + 0.5) * scale
        met = [level for index, level in enumerate(line) if -support < index + 0.5 - centre <= support]
        resized.append(math.floor(sum(met) / len(met) + 0.5))
    return resized


def jpeg_block(block: np.ndarray, quality: int) -> np.ndarray | None:
    """Save and load an 8x8 block of grey levels as JPEG's annexes say: cosine transform, quantization, and back.

    None where a coefficient lies so that libjpeg's integers may round it otherwise.
    """
    table = np.array(_LUMINANCE).reshape(8, 8)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = np.clip((table * scale + 50) // 100, 1, 255)
    basis = np.array([[math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)]) / 2
    basis[0] /= math.sqrt(2)
    steps = basis @ (block - 128.0) @ basis.T / table
    if (np.abs(steps % 1 - 0.5) < 0.01).any():
        return None
    coefficients = np.rint(steps) * table
    return np.clip(np.rint(basis.T @ coefficients @ basis + 128), 0, 255)


_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
