"""What a slide's header says: levels, resolution, frame; refused where impossible."""

from __future__ import annotations

import math
from pathlib import Path

import defusedxml.ElementTree
import openslide

from mshisto_ray.slides._slide import Frame, Level, SlideError

# Square pixels: scanners differ by a few thousandths between x and y.
_MAX_ANISOTROPY = 0.02
# A native tile is decoded whole, and this many pixels are 64 MiB as RGBA.
_MAX_NATIVE_TILE_PX = 4096
# A whole glass slide (75 x 50 mm) at 0.1 um/px has 3.75e11 pixels.
_MAX_PLANE_PX = 4e11
# A JPEG of one colour has some 300 pixels a byte; the plane of a Leica scan, most of
# which no native tile covers, some 6,000.
_MAX_PX_PER_BYTE = 20_000
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OME_UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6,
           "Å": 1e-4, "in": 25_400.0}  # fmt: skip


def check_size(path: Path, handle: openslide.OpenSlide) -> None:
    """Refuse what would cost hours or all memory, before a pixel is read.

    Raises:
        SlideError: ``ImplausibleSize``.
    """
    width, height = handle.dimensions
    reason = None
    if width * height > _MAX_PLANE_PX:
        reason = "no scanner makes"
    elif _is_tiff(path) and width * height > _MAX_PX_PER_BYTE * path.stat().st_size:
        reason = f"{path.stat().st_size:,} bytes cannot hold"
    if reason:
        raise SlideError(
            "ImplausibleSize",
            f"the header claims {width:,} x {height:,} px, which {reason}: the file is "
            "damaged or made wrong; copy it again from the scanner",
        )
    for level in range(handle.level_count):
        sides = _native_tile(handle, level)
        if sides[0] * sides[1] > _MAX_NATIVE_TILE_PX**2:
            raise SlideError(
                "ImplausibleSize",
                f"level {level} has native tiles of {sides[0]:,} x {sides[1]:,} px, "
                f"more than {_MAX_NATIVE_TILE_PX} x {_MAX_NATIVE_TILE_PX}: convert it "
                "to a pyramid with tiles of 256 to 1024 px",
            )


def _is_tiff(path: Path) -> bool:
    """Whether it is one file that holds all its pixels (MRXS or VMS are not)."""
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def levels_of(handle: openslide.OpenSlide) -> tuple[Level, ...]:
    """Native levels, each with the downsample of its size."""
    whole, levels = handle.dimensions, []
    for number, size in enumerate(handle.level_dimensions):
        # OpenSlide derives a downsample from rounded sizes (2.0005 for 2): a level
        # whose size is that of an integer downsample within a pixel has that one.
        downsample = handle.level_downsamples[number]
        exact = round(downsample)
        if all(abs(n / exact - m) <= 1 for n, m in zip(whole, size, strict=True)):
            downsample = float(exact)
        elif not _factors_agree(whole, size) or _is_cut(handle, number):
            downsample = float("inf")
        levels.append(Level(*size, downsample))
    return tuple(levels)


def _factors_agree(whole: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether one factor gives both sides of a level within a pixel."""
    least = max(n / (m + 1) for n, m in zip(whole, size, strict=True))
    most = min(n / max(m - 1, 0.5) for n, m in zip(whole, size, strict=True))
    return least <= most


def _is_cut(handle: openslide.OpenSlide, level: int) -> bool:
    """Whether a level is a whole downsample padded or cropped to native tiles.

    Of a square plane both factors are then wrong alike.
    """
    tile = _native_tile(handle, level)
    if 0 in tile:
        return False
    size, raw = handle.level_dimensions[level], handle.level_downsamples[level]
    for factor in range(max(2, math.floor(raw / 2)), math.ceil(2 * raw) + 1):
        tiles = [n / factor / t for n, t in zip(handle.dimensions, tile, strict=True)]
        for rounded in (math.ceil, math.floor):
            if size == tuple(rounded(n) * t for n, t in zip(tiles, tile, strict=True)):
                return True
    return False


def _native_tile(handle: openslide.OpenSlide, level: int) -> tuple[int, int]:
    """Width and height of a level's native tiles, 0 where unknown."""
    names = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
    width, height = (int(handle.properties.get(name, 0)) for name in names)
    return width, height


def mpp_of(handle: openslide.OpenSlide) -> float | None:
    """Micrometres per level-0 pixel; None if unknown, or different in x and y."""
    sides = pixel_um(handle)
    if sides is None:
        return None
    if abs(sides[0] - sides[1]) > _MAX_ANISOTROPY * max(sides):
        return None  # a wrong header: the cohort has to give it
    return sum(sides) / 2


def pixel_um(handle: openslide.OpenSlide) -> tuple[float, float] | None:
    """Width and height of a level-0 pixel: OpenSlide's, else OME-TIFF's."""
    properties = handle.properties
    x = number(properties.get(openslide.PROPERTY_NAME_MPP_X))
    y = number(properties.get(openslide.PROPERTY_NAME_MPP_Y))
    if x is None and y is None:
        comment = properties.get("tiff.ImageDescription", "")
        x, y = _physical_size(comment, handle.dimensions)
    # Where the file records one side alone, pixels are taken to be square.
    x, y = x or y, y or x
    return (x, y) if x and y else None


def _physical_size(
    text: str, size: tuple[int, int]
) -> tuple[float | None, float | None]:
    """PhysicalSizeX and Y in micrometres from OME-XML, of the image of this size."""
    if "<OME" not in text:
        return None, None
    try:
        root = defusedxml.ElementTree.fromstring(text.encode())
    except (ValueError, defusedxml.ElementTree.ParseError):
        return None, None
    for pixels in root.iter():
        wanted = [str(side) for side in size]
        if pixels.tag.rpartition("}")[2] != "Pixels":
            continue
        if [pixels.get("SizeX"), pixels.get("SizeY")] == wanted:
            return _length(pixels, "X"), _length(pixels, "Y")
    return None, None


def _length(pixels, axis: str) -> float | None:
    value = number(pixels.get(f"PhysicalSize{axis}"))
    # The micro sign has two code points.
    unit = pixels.get(f"PhysicalSize{axis}Unit", "µm").replace("\u03bc", "\u00b5")
    return value * _OME_UM[unit] if value and unit in _OME_UM else None


def frame_in(handle: openslide.OpenSlide) -> Frame:
    """Where QuPath and Hamamatsu's NDP.view count from."""
    properties, size = handle.properties, handle.dimensions
    names = ("x", "y", "width", "height")
    bounds = [number(properties.get(f"openslide.bounds-{name}")) for name in names]
    x, y, width, height = (round(v) if v is not None else None for v in bounds)
    sides = pixel_um(handle)
    pixel_nm = (sides[0] * 1000, sides[1] * 1000) if sides else None
    offset = [
        number(properties.get(f"hamamatsu.{axis}OffsetFromSlideCentre"))
        for axis in "XY"
    ]
    centre = None
    if pixel_nm and None not in offset:
        # The offset is that of the image's centre from the glass slide's.
        centre = (
            size[0] / 2 - (offset[0] or 0) / pixel_nm[0],
            size[1] / 2 - (offset[1] or 0) / pixel_nm[1],
        )
    origin = (x or 0, y or 0)
    shown = (width or size[0] - origin[0], height or size[1] - origin[1])
    return Frame(size, origin, shown, centre, pixel_nm)


def number(text: str | None) -> float | None:
    """A property as a finite number, None where it is none."""
    try:
        value = None if text is None else float(text)
    except ValueError:
        return None
    return value if value is not None and abs(value) < float("inf") else None
