"""A folder of images per class, and how a recipe's `data` finds its files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data import load_data
from trainer.data.images import load_folder
from trainer.data.split import Shares
from trainer.errors import DataError
from trainer.recipe import Recipe

SHARES = Shares(validation=0.25, test=0.25, seed=0)
SIZE = (6, 5)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)


def folder_of(root: Path, classes=("cat", "dog"), each: int = 8) -> Path:
    folder = root / "pets"
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            Image.fromarray(picture(100 * label + index)).save(folder / name / f"{index}.png")
    return folder


def error_of(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(folder, SIZE, SHARES)
    return str(caught.value)


def test_classes_are_the_folders_names_and_pixels_stay_pixels(tmp_path):
    """Grey images of the right size come out as they are, each with its folder's label."""
    split = load_folder(folder_of(tmp_path), SIZE, SHARES)
    assert (split.name, split.classes, split.shape) == ("pets", ("cat", "dog"), SIZE)
    assert split.image is not None
    assert split.image.range == (0.0, 255.0)
    known = {picture(100 * label + index).tobytes(): label for label in range(2) for index in range(8)}
    parts = (split.train, split.validation, split.test)
    assert [len(part.labels) for part in parts] == [8, 4, 4]
    for part in parts:
        assert part.inputs.dtype == np.uint8
        assert [known[image.tobytes()] for image in part.inputs] == part.labels.tolist()


def test_colours_are_greyed_and_sizes_scaled(tmp_path):
    """A red picture twice as large becomes the luma of red (ITU-R 601), at every pixel."""
    folder = folder_of(tmp_path)
    Image.new("RGB", (10, 12), (255, 0, 0)).save(folder / "cat" / "red.png")
    split = load_folder(folder, SIZE, SHARES)
    images = np.concatenate([part.inputs for part in (split.train, split.validation, split.test)])
    assert any((image == round(0.299 * 255)).all() for image in images)


def test_jpeg_counts_and_other_files_do_not(tmp_path):
    """.JPG in capitals, too; notes and hidden folders are passed over."""
    folder = folder_of(tmp_path)
    Image.fromarray(picture(0)).save(folder / "cat" / "more.JPG", format="JPEG")
    (folder / "cat" / "notes.txt").write_text("mine")
    (folder / ".git").mkdir()
    (folder / "README").write_text("mine")
    split = load_folder(folder, SIZE, SHARES)
    assert sum(len(part.labels) for part in (split.train, split.validation, split.test)) == 17


@pytest.mark.parametrize("keep", [0, 8, 50])
def test_an_unreadable_image_is_named(tmp_path, keep):
    """Nothing is left out silently: an empty file, a signature alone, a file cut short."""
    folder = folder_of(tmp_path)
    path = folder / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:keep])
    assert error_of(folder).startswith(f"{path}: image: ")


def test_a_folder_with_the_name_of_an_image_is_named(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "dog" / "x.png").mkdir()
    assert str(folder / "dog" / "x.png") in error_of(folder)


def test_a_class_without_images_is_named(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "emu").mkdir()
    assert error_of(folder) == f"{folder}: expected one folder of PNG or JPEG images per class; emu hold none"


def test_a_folder_without_folders(tmp_path):
    """The images lie loose."""
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    message = f"{tmp_path}: expected one folder of PNG or JPEG images per class; there are no folders"
    assert error_of(tmp_path) == message


def recipe_of(data: str) -> Recipe:
    return Recipe.model_validate({"name": "mine", "data": data, "image_size": SIZE})


def test_data_are_found_beside_the_recipe(tmp_path, monkeypatch):
    """Wherever the command was started: `data` is relative to the recipe's folder; an absolute path stays one."""
    folder_of(tmp_path)
    np.savez(tmp_path / "mine.npz", inputs=np.random.default_rng(0).random((30, 4)), labels=np.arange(30) % 3)
    monkeypatch.chdir("/")
    assert load_data(recipe_of("pets"), tmp_path, None).shape == SIZE
    assert load_data(recipe_of("mine.npz"), tmp_path, None).shape == (4,)
    assert load_data(recipe_of(str(tmp_path / "mine.npz")), Path("/nowhere"), None).shape == (4,)


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch):
    folder_of(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data(recipe_of("~/pets"), Path("/nowhere"), None).name == "pets"


@pytest.mark.parametrize("data", ["nope", "no/such/folder", "file.txt", "~no-such-user/pets"])
def test_data_that_are_not_there(tmp_path, data):
    """It says what `data` may be."""
    (tmp_path / "file.txt").write_text("1,2\n")
    told = r"recipe mine: no data '.*': expected digits, mnist, emnist, arabic_speech_commands, fsdd, an \.npz, "
    with pytest.raises(DataError, match=told):
        load_data(recipe_of(data), tmp_path, None)
