"""Fetch the terrain consistency U-Net as zoo/models/terrain/denoiser.onnx (45 MB, MIT, kept out of version control): a real
diffusion model without text, told the level of noise σ. zoo/models/terrain/denoiser.toml describes it.

    python terrain.py [--packages DIR]
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "adaptive-terrain-diffusion==0.4.2"
MEMBER = "terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx"
SHA256 = "95be54b4a39d58320e187a7ec533351c957f16a00be58773c86074828ee67887"
TARGET = Path(__file__).resolve().parent.parent / "models/terrain/denoiser.onnx"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, help="where the package lies or is put; a folder of the moment by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as moment:
        folder = arguments.packages or Path(moment)
        wheels = list(folder.glob("adaptive_terrain_diffusion-0.4.2-*.whl"))
        if not wheels:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
            subprocess.run(command, check=True)
            wheels = list(folder.glob("adaptive_terrain_diffusion-0.4.2-*.whl"))
        with zipfile.ZipFile(wheels[0]) as archive:
            data = archive.read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{MEMBER} has sha256 {found}, expected {SHA256}: another version of the package; nothing was written")
    TARGET.write_bytes(data)
    print(f"{TARGET}: {len(data) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
