"""Settings of a training: which source wins, what is refused, and that nothing is lost on the way
to ``settings.toml`` and back."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sadr_cli.errors import UsageError
from sadr_cli.training import settings as file
from sadr_cli.training.config import PRESETS, VARIANTS, RunOptions
from sadr_cli.training.settings import DataSettings, Settings, resolve, to_toml


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_without_anything_a_preset_is_taken_as_it_is() -> None:
    assert resolve().config == PRESETS["full"]
    for name, preset in PRESETS.items():
        assert resolve(preset=name).config == preset


def test_later_sources_win(write) -> None:
    path = write(
        'preset = "lite"\nname = "file"\n[data]\nface_model = "a.npz"\n'
        "[train]\nlr = 0.5\nseed = 3\n[augment]\njpeg = 1\n"
    )
    found = resolve(path)
    assert found.config == replace(
        PRESETS["lite"], lr=0.5, seed=3, augment=replace(PRESETS["lite"].augment, jpeg=1.0)
    )
    found = resolve(path, ["lr=0.25", "train.lr=0.125"], "paper", face_model="b.npz")
    assert (found.config.lr, found.config.seed, found.config.augment.jpeg) == (0.125, 3, 1.0)
    assert found.config.steps == PRESETS["paper"].steps
    assert (found.name, found.data.face_model) == ("file", "b.npz")


def test_another_length_brings_its_warm_up_unless_that_is_given_too() -> None:
    full = PRESETS["full"]
    config = resolve(changes=[f"steps={full.steps // 10}"]).config
    assert config.warmup_steps == full.warmup_steps // 10
    assert resolve(changes=["steps=100", "warmup_steps=7"]).config.warmup_steps == 7


def test_a_variant_may_come_after_a_whole_file_of_settings(write) -> None:
    path = write(to_toml(resolve(preset="lite")))
    config = resolve(path, ["variant=no-attention"]).config
    assert not config.network.attention and config.network.deformation


def test_a_teacher_gives_half_of_the_truth_unless_told_how_much() -> None:
    assert resolve(changes=["teacher=big"]).config.distill == 0.5
    assert resolve(changes=["teacher=big", "distill=0"]).config.distill == 0
    assert resolve().config.distill == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_survives_the_file(write, variant: str) -> None:
    data = {f.name: f'"odd" \\ {f.name}\tπ' for f in fields(DataSettings)} | {"train": ("a", "b")}
    settings = replace(
        resolve(preset="lite", changes=[f"variant={variant}", "max_hours=0.4", "lr=1e-7"]),
        name="n",
        data=DataSettings(**data),
        run=RunOptions(96, 7.5, True, 15 * 2**20, True, 9),
    )
    assert resolve(write(to_toml(settings))) == settings


def test_every_plain_setting_is_in_the_file() -> None:
    text = to_toml(resolve(changes=["max_hours=1", "pause_after=1", "piece=1"]))
    shown = {line.split(" = ")[0] for line in text.splitlines() if " = " in line}
    parts = Settings().sections().values()
    known = {key for part in parts for key in file._kinds(part)}
    optional = {f.name for f in fields(DataSettings)} - {"train"}
    assert shown == (known | {"preset", "variant", "name"}) - optional


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_any_editor_are_read(write, encoding: str) -> None:
    assert resolve(write("[train]\nseed = 9\n", encoding)).config.seed == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train\nlr = 1", "mine.toml is not valid TOML"),
        ("[" * 5000, "mine.toml is not valid TOML"),
        ("[train]\nlearning_rate = 1", "no setting train.learning_rate"),
        ("[training]\nlr = 1", "no setting training.lr: did you mean train.lr?"),
        ("lr = 1", "no setting lr: did you mean train.lr?"),
        ("train = 1", "no setting train"),
        ("[train]\nlr = true", "train.lr takes a number, not True"),
        ("[train]\nlr = nan", "train.lr must be from"),
        ("[train]\nsteps = 1.5", "train.steps takes a whole number"),
        ("[train]\nsteps = 0", "train.steps must be from 1"),
        ("[train]\nbatch_size = -3", "train.batch_size must be from 2"),
        ('[train]\nschedule = "linear"', "train.schedule must be one of cosine"),
        ("[train.network]\nwidth = 1", "no setting train.network"),
        ("[augment]\njpeg = 7", "augment.jpeg must be from 0 to 1"),
        ("[augment]\njpeg = [1]", "augment.jpeg takes a number"),
        ("[network]\ninput_size = 65", "multiple of 32"),
        ('[run]\ncompact = "yes"', "run.compact takes true or false"),
        ("[data]\ntrain = [1]", "data.train takes a list of strings"),
        ('preset = "huge"', "paper, full, lite"),
        ("preset = 7", "no preset 7"),
        ('variant = "huge"', "no-attention"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(write, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(write(text))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lr", "KEY=VALUE"),
        ("=7", "KEY=VALUE"),
        ("learning_rate=7", "--set learning_rate=7: there is no setting learning_rate"),
        ("lrr=7", "did you mean train.lr?"),
        ("lr=fast", "train.lr takes a number, not 'fast'"),
        ("attention=1", "use network.attention or loss.attention"),
    ],
)
def test_what_is_wrong_in_a_change_is_named(change: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(changes=[change])
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        resolve(tmp_path / "none.toml")
