"""Draw the bundled part of Caltech-101: `python tools/make_caltech_sample.py [data-folder]`.

Ten folders, the first 50 photographs of each in file order, resized to 96 x 96 and saved as JPEG.
"""

import sys
from pathlib import Path

from PIL import Image

from fpdlib.data.datasets import SAMPLES
from fpdlib.files import project_folder

FOLDERS = ("BACKGROUND_Google", "Faces_easy", "Motorbikes", "airplanes", "bonsai", "car_side", "chandelier", "ketch",
           "leopards", "watch")  # fmt: skip
COUNT, SIZE = 50, 96


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else project_folder("data", "FPD_DATA")
    source = root / "caltech101" / "101_ObjectCategories"
    by_name = {path.name.lower(): path for path in source.iterdir()}
    for name in FOLDERS:
        folder = by_name[name.lower()]
        target = SAMPLES / "caltech101-sample" / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.jpg"))[:COUNT]:
            with Image.open(path) as image:
                small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            small.save(target / path.name, quality=80)


if __name__ == "__main__":
    main()
