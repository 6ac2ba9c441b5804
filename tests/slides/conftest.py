import io

import numpy as np
import pytest
import tifffile
from PIL import Image


@pytest.fixture(scope="session")
def tissue_like():
    """Smooth colour with texture, [H, W, 3]: JPEG keeps it well, no two parts alike."""

    def draw(height, width, seed=0):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(
            rng.integers(90, 230, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
        )
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        noise = rng.integers(-12, 13, (height, width, 1))
        return np.clip(smooth.astype(int) + noise, 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def write_tiff():
    """Writes a generic pyramid of JPEG tiles; ``factors`` are its downsamples."""

    def write(path, pixels, factors=(1, 2, 4), tile=256, mpp=0.5, **options):
        bigtiff = options.pop("bigtiff", False)
        with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
            for factor in factors:
                size = (pixels.shape[1] // factor, pixels.shape[0] // factor)
                level = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
                tiff.write(
                    np.asarray(level),
                    tile=(tile, tile),
                    photometric="rgb",
                    compression="jpeg",
                    subfiletype=int(factor > 1),
                    resolution=(1e4 / mpp / factor,) * 2,
                    resolutionunit="CENTIMETER",
                    **options,
                )
        return path

    return write


@pytest.fixture(scope="session")
def write_abbreviated():
    """Writes one level as Aperio does: RGB components, tables apart, no markers."""

    def write(path, pixels, tile=240):
        height, width, _ = pixels.shape
        streams, tables = [], b""
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                part = np.full((tile, tile, 3), 255, np.uint8)
                found = pixels[y : y + tile, x : x + tile]
                part[: found.shape[0], : found.shape[1]] = found
                tables, stream = _split(part)
                streams.append(stream)
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                iter(streams),
                shape=pixels.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"outcolorspace": "RGB"},
                jpegtables=tables,
                resolution=(2e4, 2e4),
                resolutionunit="CENTIMETER",
            )
        return path

    return write


def _split(pixels):
    """Tables-only and image-only JPEG streams of RGB components."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85, keep_rgb=True)
    data = buffer.getvalue()
    tables, image, at = b"", b"", 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + size]
        if data[at + 1] in (0xDB, 0xC4):
            tables += segment
        elif data[at + 1] not in (0xE0, 0xEE):
            image += segment
        at += size
    start, end = b"\xff\xd8", b"\xff\xd9"
    return start + tables + end, start + image + data[at:]
