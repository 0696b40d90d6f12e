"""Recipes: what ships is valid, and every mistake is told by key, value and what was expected."""

from itertools import pairwise
from pathlib import Path

import pytest

from trainer.errors import RecipeError
from trainer.recipe import EnsembleTable, Recipe, StudentTable, Training, read_recipe, shipped
from trainer.speech.corpus import ARABIC


def recipe(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


SHIPPED = "acoustic-full, digits, emnist, mnist, mnist-quick, spoken-digits, spoken-words"


def error_of(given: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(given)
    return str(caught.value).replace(given, "FILE")


@pytest.mark.parametrize(
    "name", ["digits", "emnist", "mnist", "mnist-quick", "spoken-digits", "spoken-words", "acoustic-full"]
)
def test_what_ships_is_valid(name):
    """By its name alone."""
    read, _ = read_recipe(name)
    assert read.name == name
    corpora = {"spoken-digits": "fsdd", "spoken-words": ARABIC, "acoustic-full": ARABIC}
    assert read.data == corpora.get(name, name.removesuffix("-quick"))


def test_these_ship():
    assert shipped() == ["acoustic-full", "digits", "emnist", "mnist", "mnist-quick", "spoken-digits", "spoken-words"]


def test_the_digits_student_is_ten_times_smaller():
    """Parameters of the shipped recipe, counted by hand from its widths."""
    read, _ = read_recipe("digits")

    def count(hidden: tuple[int, ...]) -> int:
        sizes = (64, *hidden, 10)
        return sum((wide + 1) * high for wide, high in pairwise(sizes))

    assert read.ensemble.members * count(read.ensemble.hidden) >= 10 * count(read.student.hidden)


def test_mnist_has_the_networks_of_section_3():
    read, _ = read_recipe("mnist")
    assert (read.ensemble.hidden, read.ensemble.jitter, read.ensemble.members) == ((1200, 1200), 2, 10)
    assert read.ensemble.dropout > 0
    assert read.student.hidden == (800, 800)


def test_the_full_acoustic_model_is_the_papers():
    read, _ = read_recipe("acoustic-full")
    assert read.ensemble.hidden == read.student.hidden == (2560,) * 8
    assert (read.ensemble.members, read.student.hard_weight, read.student.weights[0]) == (10, 0.5, 1.0)


def test_one_line_is_a_recipe(tmp_path):
    """Everything but the data has a default; the name is the file's stem, paths are relative to its folder."""
    read, folder = read_recipe(recipe(tmp_path, 'data = "mine.npz"'))
    assert read == Recipe(name="mine", data="mine.npz", ensemble=EnsembleTable(), student=StudentTable())
    assert folder == tmp_path
    assert (read.validation, read.test, read.split_seed) == (0.2, 0.2, 0)
    assert (read.ensemble.members, read.ensemble.hidden, read.ensemble.mean) == (10, (128, 128), "arithmetic")
    assert (read.student.hidden, read.student.temperature, read.student.hard_weight) == ((32,), 4.0, 0.1)


def test_a_recipe_may_name_itself(tmp_path):
    assert read_recipe(recipe(tmp_path, 'data = "digits"\nname = "other"'))[0].name == "other"


def test_values_are_read(tmp_path):
    tables = '[student]\nhidden = []\nhard_weight = 1\n[ensemble]\nmean = "geometric"'
    text = f'data = "digits"\nimage_size = [8, 9]\n{tables}'
    read, _ = read_recipe(recipe(tmp_path, text))
    assert read.image_size == (8, 9)
    assert (read.student.hidden, read.student.hard_weight) == ((), 1.0)
    assert read.ensemble.mean == "geometric"


def test_an_unknown_key_is_refused_by_name(tmp_path):
    assert error_of(recipe(tmp_path, 'data = "digits"\nepochs = 3')) == (
        "recipe FILE: unknown key 'epochs'; known there: "
        "name, data, validation, test, split_seed, image_size, label, transfer, teacher, views, ensemble, student, "
        "specialists"
    )


def test_an_unknown_key_of_a_table_is_refused_by_name(tmp_path):
    assert error_of(recipe(tmp_path, 'data = "digits"\n[student]\nepoch = 3')) == (
        "recipe FILE: unknown key 'student.epoch'; known there: "
        "network, hidden, dropout, epochs, batch_size, learning_rate, weight_decay, precision, keep, loss, "
        "temperature, hard_weight, weighting, "
        "target_weight, other_weight, standardise, jitter, distort, mix, numbered_views, seeds, "
        "reduced, allowed_drop"
    )
    assert error_of(recipe(tmp_path, 'data = "digits"\n[ensemble]\ntemperature = 3')) == (
        "recipe FILE: unknown key 'ensemble.temperature'; known there: "
        "network, hidden, dropout, epochs, batch_size, learning_rate, weight_decay, precision, keep, members, mean, "
        "jitter, distort"
    )


def test_an_unknown_key_of_the_specialists_is_refused_by_name(tmp_path):
    assert error_of(recipe(tmp_path, 'data = "digits"\n[specialists]\nmembers = 3')) == (
        "recipe FILE: unknown key 'specialists.members'; known there: number, size, overlap, standardise, "
        "top_classes, generalists, full_softmax, teach, epochs, batch_size, learning_rate, weight_decay"
    )


def test_specialists_are_trained_like_the_generalist(tmp_path):
    """Its network, widths, dropout and precision; epochs, batches and rates of their own. Without a table there are
    none."""
    text = 'data = "digits"\n[ensemble]\nhidden = [7]\ndropout = 0.2\n[specialists]\nepochs = 5\noverlap = true\n'
    read, _ = read_recipe(recipe(tmp_path, text))
    assert read.specialists is not None
    expected = Training(hidden=(7,), dropout=0.2, epochs=5, batch_size=64, learning_rate=3e-4)
    assert read.specialists.training(read.ensemble) == expected
    assert read_recipe("digits")[0].specialists is None


def test_students_are_taught_by_the_ensemble_unless_specialists_teach(tmp_path):
    """Only then are specialists trained where students alone are wanted."""
    without, idle, teaching = (
        read_recipe(recipe(tmp_path, f'data = "digits"\n{table}'))[0]
        for table in ("", "[specialists]", "[specialists]\nteach = true")
    )
    assert [read.taught_by for read in (without, idle, teaching)] == ["ensemble", "ensemble", "specialists"]
    assert [read.for_students() for read in (without, idle, teaching)] == [without, without, teaching]


def test_every_mistake_is_told_at_once(tmp_path):
    message = error_of(recipe(tmp_path, "validation = 2.0\n[ensemble]\nmembers = 1\nsize = 3"))
    for part in ("data is missing", "validation: ", "ensemble.members: ", "unknown key 'ensemble.size'"):
        assert part in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[ensemble]\nmembers = 1", "ensemble.members: got 1, expected greater than or equal to 2"),
        ("[ensemble]\nhidden = [0]", "ensemble.hidden.0: got 0, expected greater than or equal to 1"),
        ("[ensemble]\nhidden = 32", "ensemble.hidden: got 32, expected a valid "),
        ("[ensemble]\ndropout = 1.0", "ensemble.dropout: got 1.0, expected less than 1"),
        ("[ensemble]\njitter = -1", "ensemble.jitter: got -1, expected greater than or equal to 0"),
        ("[ensemble]\nepochs = 0", "ensemble.epochs: got 0, expected greater than or equal to 1"),
        ("[ensemble]\nepochs = 2.5", "ensemble.epochs: got 2.5, expected a valid integer"),
        ("[ensemble]\nlearning_rate = 0.0", "ensemble.learning_rate: got 0.0, expected greater than 0"),
        ("[ensemble]\nlearning_rate = inf", "ensemble.learning_rate: got Infinity, expected a finite number"),
        ("[ensemble]\nlearning_rate = nan", "ensemble.learning_rate: got NaN, expected a finite number"),
        ("[specialists]\nnumber = 0", "specialists.number: got 0, expected greater than or equal to 1"),
        ("[specialists]\nteach = 1", "specialists.teach: got 1, expected a valid boolean"),
        ("[specialists]\nbatch_size = 1", "specialists.batch_size: got 1, expected greater than or equal to 2"),
        ("[specialists]\ngeneralists = 11", "specialists.generalists = 11: expected at most the 10 members of the"),
        (
            'teacher = "x.onnx"\n[specialists]',
            "teacher = 'x.onnx' has no weights to start from: [specialists] need an ensemble trained here",
        ),
        ('[ensemble]\nmean = "harmonic"', "expected 'arithmetic' or 'geometric'"),
        ("[student]\ntemperature = 0", "student.temperature: got 0, expected greater than or equal to 0.01"),
        ("[student]\nhard_weight = 1.1", "student: hard_weight 1.1 is above 1, which a convex mix cannot have"),
        ("[student]\nhard_weight = -0.1", "student.hard_weight: got -0.1, expected greater than or equal to 0"),
        ('[student]\nnetwork = "resnet"', "student: network 'resnet': expected mlp, cnn, or module:factory"),
        (
            '[student]\nnetwork = "cnn"\ndropout = 0.5',
            "student: dropout = 0.5 is for mlp alone; network 'cnn' has what",
        ),
        ('[ensemble]\nprecision = "int8"', "expected 'float32' or 'bfloat16'"),
        ('[student]\nloss = "mse"', "expected 'soft', 'logits' or 'decoupled'"),
        ('[student]\nweighting = "sum"', "expected 'convex' or 'relative'"),
        ("[student]\nseeds = 0", "student.seeds: got 0, expected greater than or equal to 1"),
        ("validation = 0.0", "validation: got 0.0, expected greater than 0"),
        ("validation = 0.6\ntest = 0.4", "validation 0.6 + test 0.4 leave nothing to train on"),
        ('teacher = "t.onnx"\n[ensemble]', "teacher = 't.onnx' teaches instead of an ensemble: expected no table"),
        ('transfer = "emnist"', 'transfer = "emnist" goes with data = "emnist" alone, got data = "digits"'),
        ("image_size = [28]", "image_size.1 is missing"),
        ("views = -1", "views: got -1, expected greater than or equal to 0"),
        ("split_seed = -1", "split_seed: got -1, expected greater than or equal to 0"),
        ('name = "a/b"', 'name: got "a/b", expected lower-case letters, digits'),
    ],
)
def test_wrong_values(tmp_path, line, told):
    """The key, and what was expected."""
    message = error_of(recipe(tmp_path, f'data = "digits"\n{line}'))
    assert message.startswith("recipe FILE: ")
    assert told in message


@pytest.mark.parametrize("line", ['epochs = "60"', "epochs = true", 'hidden = ["32"]', 'learning_rate = "fast"'])
def test_values_of_another_type_are_not_converted(tmp_path, line):
    """A number in quotation marks is a mistake, and true is not 1."""
    assert f"ensemble.{line.split()[0]}" in error_of(recipe(tmp_path, f'data = "digits"\n[ensemble]\n{line}'))


def test_an_unknown_recipe_lists_what_ships():
    message = f"no recipe 'nope': expected one that ships ({SHIPPED}) or the path of a .toml file"
    with pytest.raises(RecipeError) as caught:
        read_recipe("nope")
    assert str(caught.value) == message


def test_a_missing_file_lists_what_ships(tmp_path):
    message = f"no recipe 'FILE': expected one that ships ({SHIPPED}) or the path of a .toml file"
    assert error_of(str(tmp_path / "mine.toml")) == message
    (tmp_path / "file").write_text("")
    assert error_of(str(tmp_path / "file" / "mine.toml")) == message


@pytest.mark.parametrize("text", ["data = digits", "data", "[ensemble\n", 'data = "a"\ndata = "b"'])
def test_what_is_not_toml(tmp_path, text):
    """With the place of the mistake."""
    message = error_of(recipe(tmp_path, text))
    assert message.startswith("recipe FILE is not TOML: ")
    assert "(at " in message


def test_a_folder_is_no_recipe(tmp_path):
    assert error_of(str(tmp_path)).startswith("cannot read recipe FILE: ")


def test_bytes_are_no_recipe(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    assert error_of(str(tmp_path / "mine.toml")).startswith("cannot read recipe FILE: ")


@pytest.mark.parametrize("name", ["My Recipe.toml", "-x.toml", "é.toml"])
def test_a_stem_that_is_no_name(tmp_path, name):
    """The error says that it is about the name, and what a name is."""
    message = error_of(recipe(tmp_path, 'data = "digits"', name))
    assert message.startswith("recipe FILE: name: got ")
    assert message.endswith("at most 100; without a name it is the file's")


def test_a_name_leaves_room_for_the_models_names(tmp_path):
    """`<name>-ensemble` must still be a model's name, of 128 characters at most, and that is told before training."""
    assert "name: " in error_of(recipe(tmp_path, 'data = "digits"', f"{'a' * 120}.toml"))
    assert read_recipe(recipe(tmp_path, 'data = "digits"', f"{'a' * 100}.toml"))[0].name == "a" * 100


def test_a_recipe_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        read_recipe("digits")[0].name = "other"
