"""Settings of a preprocessing pipeline: one file in pipelines/."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from fvpipe.config.loading import Names, Pair, Range, Settings, digest_of, is_plain_name, nearest, parse, parse_yaml, read_yaml
from fvpipe.errors import ParameterError
from fvpipe.reasons import CropVerdict
from fvpipe.types import Digest

Voi = Literal["none", "window", "lut", "auto"]
"""VOI transformation that is applied after the Modality LUT or rescale."""

REDUCED = ("wavelet", "equal_area")
"""Methods of resizing for which JPEG 2000 is decoded no finer than the image needs."""

Verdicts = Annotated[tuple[Annotated[CropVerdict, Field(strict=False)], ...], Field(strict=False)]


class Segment(Settings):
    """How the breast is found. The paper says "an automated segmentation algorithm" and no more."""

    method: Literal["none", "otsu_log", "otsu_linear", "triangle", "agreement"] = "none"
    engine: Literal["opencv", "simpleitk"] = "opencv"
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.01  # share of the box's longer side
    mask_outside: bool = False  # also set everything outside the outline to the background
    build: Verdicts = tuple(CropVerdict)  # verdicts on crops that are built; a breast with another is left out

    @field_validator("build")
    @classmethod
    def _builds_good_crops(cls, value: tuple[CropVerdict, ...]) -> tuple[CropVerdict, ...]:
        if CropVerdict.GOOD not in value:
            raise ValueError(f"segment.build must hold 'good'; beside it, any of {', '.join(list(CropVerdict)[1:])}")
        return tuple(verdict for verdict in CropVerdict if verdict in value)  # the order must not matter

    @model_validator(mode="after")
    def _mask_needs_a_method(self) -> Segment:
        if self.mask_outside and self.method == "none":
            raise ValueError("segment.mask_outside needs a segment.method other than 'none'")
        return self


class Fuse(Settings):
    """How CC and MLO are fused to one image."""

    layout: Literal["side_by_side", "stacked", "channels", "cc", "mlo"] = "side_by_side"
    align: Literal["pad", "each"] = "pad"  # pad both to a common canvas, or resize each view to its own part
    canonical_side: Literal["none", "left"] = "none"  # mirror so that the chest wall is on this side


class Intensity(Settings):
    """How values are normalized to [0, 1]."""

    method: Literal["minmax", "minmax_per_view", "percentiles", "percentiles_per_view"] = "minmax"
    percentiles: Range = (0.1, 99.9)
    region: Literal["crop", "breast"] = "crop"  # pixels that give the range: of the crop, or of the outline's interior
    median: Annotated[float, Field(gt=0, lt=1)] | None = None  # what the median of these pixels becomes; None: as it falls

    @field_validator("percentiles")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError("percentiles must be two numbers, 0 <= low < high <= 100")
        return value

    @property
    def per_view(self) -> bool:
        """Whether CC and MLO are normalized separately."""
        return self.method.endswith("_per_view")


class Resize(Settings):
    """How the fused image is resized to `size`."""

    # All but bilinear antialias. wavelet and equal_area decode JPEG 2000 no finer than the image needs; equal_area warps.
    method: Literal["bilinear", "area", "wavelet", "equal_area"] = "bilinear"
    aspect: Literal["squeeze", "letterbox"] = "squeeze"
    stretch: Annotated[float, Field(ge=0, le=1)] = 0.5  # of equal_area: least width of a row, as a share of the widest

    @property
    def reduced(self) -> bool:
        """Whether JPEG 2000 is decoded no finer than the image needs."""
        return self.method in REDUCED

    @model_validator(mode="after")
    def _keys_of_equal_area(self) -> Resize:
        if self.method != "equal_area" and "stretch" in self.model_fields_set:
            raise ValueError("resize.stretch needs resize.method 'equal_area'")
        if self.method == "equal_area" and self.aspect != "squeeze":
            raise ValueError("resize.method 'equal_area' fills the whole image: resize.aspect must be 'squeeze'")
        return self

    @model_serializer(mode="wrap")
    def _without_idle_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Pipelines of other methods have the digest that they had before there was this one.
        return {key: value for key, value in dump(self).items() if key != "stretch" or self.method == "equal_area"}


class Pipeline(Settings):
    """A preprocessing pipeline: everything that decides a byte of an image, and the facts that lie beside it in the shards."""

    voi: Voi = "none"
    segment: Segment = Segment()
    fuse: Fuse = Fuse()
    intensity: Intensity = Intensity()
    resize: Resize = Resize()
    size: Pair = (256, 256)  # rows, columns
    dtype: Literal["uint16", "uint8", "float32"] = "uint16"
    constant: Literal["reject", "keep"] = "reject"  # a breast with a view whose real pixels all have one value
    targets: Names = ()  # facts that the shards hold beside the label

    @field_validator("size")
    @classmethod
    def _size_in_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 8192 for side in value):
            raise ValueError("size must be [rows, columns], each from 16 to 8192")
        return value

    @field_validator("targets")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if not is_plain_name(name)]:
            raise ValueError(f"{wrong[0]!r} is not a name of a fact; only a-z, 0-9, '-' and '_', at most 64 characters")
        if "label" in value:
            raise ValueError("'label' is always there; name facts beside it, such as bi_rads or density")
        return tuple(sorted(set(value)))  # the order must not matter

    @model_validator(mode="after")
    def _region_needs_a_method(self) -> Pipeline:
        if self.intensity.region == "breast" and self.segment.method == "none":
            raise ValueError("intensity.region 'breast' needs a segment.method other than 'none'")
        return self

    @model_validator(mode="after")
    def _equal_area_needs_an_outline(self) -> Pipeline:
        if self.resize.method != "equal_area":
            return self
        if self.segment.method == "none":
            raise ValueError("resize.method 'equal_area' needs a segment.method other than 'none'")
        if self.fuse.layout in ("side_by_side", "stacked", "channels") and self.fuse.align != "each":
            raise ValueError("resize.method 'equal_area' fills the part of each view: fuse.align must be 'each'")
        side = {"side_by_side": 1, "stacked": 0}.get(self.fuse.layout)
        if side is not None and self.size[side] % 2:
            raise ValueError("resize.method 'equal_area' needs two parts of one size: the fused side of size must be even")
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return 2 if self.fuse.layout == "channels" else 1, *self.size

    def canonical_yaml(self) -> str:
        """Format every key with its value, defaults too, in one fixed form; it is stored in the shards."""
        targets = {"targets": list(self.targets)} if self.targets else {}
        return yaml.safe_dump(self._of_images() | targets, sort_keys=True, default_flow_style=None)

    def digest(self) -> Digest:
        """Return the BLAKE3 digest of all that decides an image; comments, order and omitted defaults do not change it."""
        return digest_of(self._of_images())

    def _of_images(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"targets"})


def stored_pipeline(text: str, where: object, image_shape: tuple[int, ...] = ()) -> Pipeline:
    """Parse :meth:`Pipeline.canonical_yaml` of somebody's shards or model.

    Parameters
    ----------
    text : str
        YAML.
    where : object
        What a message begins with.
    image_shape : tuple of int
        Shape of the images that it is said to have made, with or without a channel; empty: not known.

    Raises
    ------
    ParameterError
        No settings of a pipeline, or of one that makes other images.
    """
    pipeline = parse(Pipeline, parse_yaml(text, where), str(where))
    if image_shape and image_shape not in (pipeline.image_shape, pipeline.image_shape[1:]):
        raise ParameterError(f"{where}: makes images of {pipeline.image_shape}, and those beside it are of {image_shape}")
    return pipeline


def load_pipeline(name: str, project: Path = Path()) -> tuple[str, Pipeline]:
    """Read the pipeline called `name`, or the file `name` where it ends in ``.yaml``.

    The project's ``pipelines/`` folder wins over the files that come with fvpipe.

    Returns
    -------
    (name, pipeline) : (str, Pipeline)
        The name is the file's stem.

    Raises
    ------
    ParameterError
        No such pipeline, a file whose stem cannot name one, or a wrong key or value in it.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not is_plain_name(path.stem):
            raise ParameterError(f"pipeline file {path.name!r}: its stem becomes a folder name; use a-z, 0-9, '-' and '_'")
        return path.stem, parse(Pipeline, read_yaml(path), str(path))
    package = Path(str(resources.files("fvpipe")))
    folders = [project / "pipelines", package / "pipelines", package.parent / "pipelines"]  # own; in a wheel; in a checkout
    for path in (folder / f"{name}.yaml" for folder in folders if is_plain_name(name)):
        if path.is_file():
            return name, parse(Pipeline, read_yaml(path), str(path))
    known = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    raise ParameterError(f"no pipeline {name!r}{nearest(name, known)}; known: {', '.join(known) or 'none'}")
