"""Makes the pictures and numbers in references/ that the tests compare with.

    python make_references.py PHOTO

PHOTO is any photograph of at least 300 x 200 pixels; the stored files were made from scikit-image's
chelsea.png (CC0) with Pillow 12 (the order of its resizing passes is that of every
Pillow before 13), torchvision 0.29, timm 1.0 and transformers 5. Each picture in a format that is
awkward to decode lies beside what Pillow makes of it (`NAME.expected.png`); resized pictures and
network inputs are Pillow's, torchvision's and timm's own.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent / "references"
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def save(folder: str, name: str, picture: Image.Image, expected=None, **options) -> None:
    """Writes `picture` and, beside it, what Pillow reads back as upright RGB."""
    path = HERE / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    if expected is None:
        expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    expected.save(path.with_name(name + ".expected.png"), optimize=True)


def soft_alpha(size: tuple[int, int]) -> Image.Image:
    width, height = size
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(ramp, (height, width)).copy())


def formats(photo: Image.Image) -> None:
    """Every kind of file that Picture::open has to understand."""
    gray, alpha = photo.convert("L"), soft_alpha(photo.size)
    pixels = np.asarray(photo)
    save("formats", "baseline_420.jpg", photo, quality=85, subsampling="4:2:0")
    save("formats", "baseline_422.jpg", photo, quality=85, subsampling="4:2:2")
    save("formats", "baseline_444.jpg", photo, quality=85, subsampling="4:4:4")
    save("formats", "progressive.jpg", photo, quality=85, progressive=True)
    save("formats", "restart.jpg", photo, quality=85, restart_marker_rows=1)
    save("formats", "gray.jpg", gray, quality=85)
    save("formats", "cmyk.jpg", photo.convert("CMYK"), quality=95)
    save("formats", "rgba.png", Image.merge("RGBA", [*photo.split(), alpha]))
    save("formats", "gray_alpha.png", Image.merge("LA", [gray, alpha]))
    save("formats", "palette.png", photo.quantize(32))
    save("formats", "palette_transparent.png", photo.quantize(16), transparency=bytes(range(0, 256, 16)))
    save("formats", "bilevel.png", gray.convert("1"))
    # Pillow clips 16-bit gray at 255 when it converts; the high byte is what it keeps of colour.
    wide = (np.asarray(gray).astype(np.uint16) << 8) + 128
    save("formats", "gray16.png", Image.fromarray(wide), expected=gray.convert("RGB"))
    save("formats", "gray16.tif", Image.fromarray(wide), expected=gray.convert("RGB"))
    rgb16_png(HERE / "formats" / "rgb16.png", pixels)
    photo.save(HERE / "formats" / "rgb16.png.expected.png", optimize=True)
    save("formats", "rgb24.bmp", photo)
    save("formats", "lzw.tif", photo, compression="tiff_lzw")
    save("formats", "deflate_rotated.tif", photo, compression="tiff_deflate", tiffinfo={274: 6})
    frames = [photo.quantize(32), ImageOps.invert(photo).quantize(32)]
    save("formats", "animated.gif", frames[0], save_all=True, append_images=frames[1:], duration=100)
    clear = photo.quantize(31)
    save("formats", "transparent.gif", clear, transparency=clear.getpixel((0, 0)))
    save("formats", "lossy.webp", photo, quality=80)
    save("formats", "lossless.webp", Image.merge("RGBA", [*photo.split(), alpha]), lossless=True, exact=True)
    save("formats", "animated.webp", photo, save_all=True, append_images=[ImageOps.invert(photo)], lossless=True)


def rgb16_png(path: Path, pixels: np.ndarray) -> None:
    """A 16-bit colour PNG, which Pillow reads but cannot write."""
    import struct
    import zlib

    height, width, _ = pixels.shape
    wide = (pixels.astype(">u2") << 8) + 77
    rows = b"".join(b"\0" + wide[row].astype(">u2").tobytes() for row in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks:
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))
    assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), pixels)


def orientations(photo: Image.Image) -> None:
    """The eight EXIF orientations, of a picture that looks different in each."""
    small = photo.resize((32, 24))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        save("orientation", f"{orientation}.jpg", small, exif=exif, quality=90, subsampling="4:4:4")
    exif[274] = 6
    save("orientation", "6.png", small, exif=exif)
    save("orientation", "6.webp", small, exif=exif, lossless=True)


def resizes(photo: Image.Image) -> None:
    """Shrinking, growing, both at once, and extreme ratios, with each filter."""
    folder = HERE / "resize"
    folder.mkdir(parents=True, exist_ok=True)
    photo.save(folder / "source.png", optimize=True)
    sizes = [(40, 30), (33, 80), (130, 17), (67, 44), (66, 20), (1, 1), (7, 150)]
    for name, chosen in FILTERS.items():
        for width, height in sizes:
            photo.resize((width, height), chosen).save(folder / f"{name}_{width}x{height}.png", optimize=True)


def network_inputs(photo: Image.Image) -> None:
    """What torchvision's and timm's own pipelines hand to a network, as raw little-endian f32."""
    import timm.data
    from torchvision import transforms

    folder = HERE / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    tall = photo.rotate(90, expand=True).crop((0, 0, 41, 65))
    photo.save(folder / "wide.png", optimize=True)
    tall.save(folder / "tall.png", optimize=True)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pipelines = {
        "torchvision": transforms.Compose([
            transforms.Resize(27),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]),
        "padded": transforms.Compose([
            transforms.Resize(16, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]),
    }
    cases = {
        "timm_center": {"input_size": [3, 24, 24], "crop_pct": 0.875, "interpolation": "bicubic"},
        "timm_oblong": {"input_size": [3, 18, 30], "crop_pct": 0.9, "interpolation": "bilinear"},
        "timm_squash": {"input_size": [3, 24, 24], "crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bicubic"},
        "timm_border": {"input_size": [3, 24, 24], "crop_pct": 1.0, "crop_mode": "border", "interpolation": "bicubic"},
    }
    for name, case in cases.items():
        settings = {"crop_mode": "center", **case, "mean": mean, "std": std}
        keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
        pipelines[name] = timm.data.create_transform(**{key: settings[key] for key in keys})
        (folder / f"{name}.json").write_text(json.dumps({"pretrained_cfg": settings}, indent=1) + "\n")
    for name, pipeline in pipelines.items():
        for shape, picture in (("wide", photo), ("tall", tall)):
            pipeline(picture).numpy().astype("<f4").tofile(folder / f"{name}_{shape}.f32")
    hugging_face(folder, {"wide": photo, "tall": tall})


def hugging_face(folder: Path, pictures: dict[str, Image.Image]) -> None:
    """What the slow (Pillow-based) image processors of transformers hand to a network."""
    import transformers

    def processor(name: str):
        found = getattr(transformers, name + "Pil", None) or getattr(transformers, name)
        print(name, "->", found.__name__)
        return found

    cases = {
        "hf_vit": processor("ViTImageProcessor")(size={"height": 24, "width": 18}, resample=2),
        "hf_clip": processor("CLIPImageProcessor")(
            size={"shortest_edge": 27}, crop_size={"height": 24, "width": 24}, resample=3
        ),
        "hf_convnext": processor("ConvNextImageProcessor")(size={"shortest_edge": 24}, crop_pct=0.875, resample=3),
        "hf_flipped": processor("MobileViTImageProcessor")(
            size={"shortest_edge": 27}, crop_size={"height": 24, "width": 24}, resample=2
        ),
    }
    for name, case in cases.items():
        config = {key: value for key, value in json.loads(case.to_json_string()).items() if value is not None}
        (folder / f"{name}.json").write_text(json.dumps(config, indent=1) + "\n")
        for shape, picture in pictures.items():
            values = np.asarray(case(picture)["pixel_values"][0])
            values.astype("<f4").tofile(folder / f"{name}_{shape}.f32")


def upsampled_maps() -> None:
    """torch's bilinear interpolation of a small map, both ways of aligning."""
    import torch

    folder = HERE / "heat"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    small = torch.rand(1, 1, 5, 7)
    cases = {"small": small}
    for name, align in (("corners", True), ("centres", False)):
        cases[name] = torch.nn.functional.interpolate(small, size=(16, 23), mode="bilinear", align_corners=align)
    for name, values in cases.items():
        values[0, 0].numpy().astype("<f4").tofile(folder / f"{name}.f32")


def main() -> None:
    photo = Image.open(sys.argv[1]).convert("RGB").crop((100, 20, 292, 148)).resize((66, 44), Image.Resampling.BICUBIC)
    formats(photo)
    orientations(photo)
    resizes(photo)
    network_inputs(photo)
    upsampled_maps()


if __name__ == "__main__":
    main()
