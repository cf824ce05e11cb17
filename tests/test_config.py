"""Settings: every mistake is named with the nearest right word, and a digest depends on values alone."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import typing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fvpipe.config.loading import digest_of, is_plain_name, parse, read_yaml
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.config.project import DataSet, Labels, Params, load_params
from fvpipe.config.training import Recipe, Train
from fvpipe.errors import ParameterError
from fvpipe.reasons import CropVerdict

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (ROOT / "pipelines").glob("*.yaml"))


def pipeline(text: str | bytes, folder: Path) -> Pipeline:
    """What a pipeline file of this content says."""
    file = folder / "own.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_pipeline(str(file))[1]


def rejected(text: str | bytes, folder: Path) -> str:
    """Why it is rejected, without the file's name."""
    with pytest.raises(ParameterError) as error:
        pipeline(text, folder)
    message = str(error.value)
    assert message.startswith(str(folder / "own.yaml"))
    assert "\n" not in message
    return message.removeprefix(str(folder / "own.yaml")).removeprefix(": ")


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    # misspelt
    "segmnt: {method: otsu_log}": "unknown key 'segmnt' (did you mean 'segment'?); known: voi, segment, fuse,",
    "segment: {metod: otsu_log}": "unknown key 'segment.metod' (did you mean 'method'?); known: method, engine, margin,",
    "segment: {method: otsu_lgo}": "'segment.method' is 'otsu_lgo' (did you mean 'otsu_log'?); expected one of none, otsu_log,",
    "resize: {aspect: letter_box}": "'resize.aspect' is 'letter_box' (did you mean 'letterbox'?); expected one of squeeze,",
    "dtype: float": "'dtype' is 'float' (did you mean 'float32'?); expected one of uint16, uint8, float32",
    "colour: red": "unknown key 'colour'; known:",
    # out of range
    "segment: {margin: 0.6}": "'segment.margin': Input should be less than or equal to 0.5, found 0.6",
    "segment: {margin: -0.1}": "'segment.margin': Input should be greater than or equal to 0, found -0.1",
    "segment: {margin: .nan}": "'segment.margin': Input should be",
    "size: [15, 256]": "'size': size must be [rows, columns], each from 16 to 8192, found [15, 256]",
    "size: [256, 8193]": "'size': size must be",
    "intensity: {percentiles: [99, 1]}": "'intensity.percentiles': percentiles must be two numbers, 0 <= low < high <= 100",
    "intensity: {percentiles: [1, 1]}": "'intensity.percentiles': percentiles must be",
    "intensity: {percentiles: [.nan, 99]}": "'intensity.percentiles': percentiles must be",
    "segment: {mask_outside: true}": "'segment': segment.mask_outside needs a segment.method other than 'none'",
    # of the wrong type: nothing is converted
    'size: ["256", "256"]': "'size.0': Input should be a valid integer, found '256'",
    "size: [256.0, 256]": "'size.0': Input should be a valid integer, found 256.0",
    "size: [true, 256]": "'size.0': Input should be a valid integer, found True",
    "size: 256": "'size' is 256; expected a list, as in [a, b]",
    "size: [256]": "'size.1' is missing",
    "size: [256, 256, 1]": "'size': Tuple should have at most 2 items",
    'segment: {margin: "0.1"}': "'segment.margin': Input should be a valid number, found '0.1'",
    "segment: {margin: 1e-2}": "'segment.margin': Input should be a valid number, found '1e-2'",  # a text in YAML 1.1
    "segment: {margin: true}": "'segment.margin': Input should be a valid number, found True",
    "segment: {mask_outside: 1}": "'segment.mask_outside': Input should be a valid boolean, found 1",
    "segment: otsu_log": "'segment': Input should be a valid dictionary",
    "segment:": "'segment': Input should be a valid dictionary",
    "voi: no": "'voi' is False; expected one of none, window, lut",  # a boolean in YAML 1.1
    "- voi": "Input should be a valid dictionary",
    "just words": "Input should be a valid dictionary",
    # two at once
    "voi: x\nsiz: 1": "'voi' is 'x'; expected one of none, window, lut, auto; unknown key 'siz' (did you mean 'size'?)",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named(text: str, tmp_path: Path) -> None:
    assert rejected(text, tmp_path).startswith(MISTAKES[text])


NOT_YAML = {
    "voi: none\nvoi: none": ", line 2: key 'voi' occurs twice",
    "segment:\n  method: none\n  margin: 0.1\n  method: otsu_log": ", line 4: key 'method' occurs twice",
    "{voi: none, 'voi': lut}": ", line 1: key 'voi' occurs twice",
    "1: none": ", line 1: key 1 is not text",
    "yes: none": ", line 1: key True is not text",
    "? [a]\n: none": ", line 1: key ['a'] is not text",
    "voi: [none": ", line 1: expected ',' or ']'",
    "voi: none: lut": ", line 1: mapping values are not allowed here",
    '"': ", line 1: found unexpected end of stream",
    "voi: none\n---\nvoi: lut": ", line 2: but found another document",
    "voi: *nowhere": ", line 1: found undefined alias 'nowhere'",
    "voi: \x07": "not valid YAML",
    "size: 2020-13-45": "not valid YAML",
    "size: " + "9" * 5000: "not valid YAML",
    "voi: " + "[" * 5000: "not valid YAML",
    # few aliases that stand for billions of values, or of merged keys
    "a: &a [1, 1]\n" + "".join(f"{x}: &{x} [{f'*{y}, ' * 9}]\n" for y, x in pairwise("abcdefghij")): "more than 65536 values",
    "a: &a {b: 1}\n" + "".join(f"{x}: &{x} !!set {{<<: [{f'*{y}, ' * 9}]}}\n" for y, x in pairwise("abcdefghij")): (
        "more than 65536 values"
    ),
    # tags whose values PyYAML does not check
    'size: !!int ""': "not valid YAML",
    'size: !!float ""': "not valid YAML",
    "size: !!bool maybe": "not valid YAML",
    "size: !!timestamp now": "not valid YAML",
}


@pytest.mark.parametrize("text", NOT_YAML, ids=lambda text: text[:30])
def test_what_is_no_yaml_of_ours(text: str, tmp_path: Path) -> None:
    assert rejected(text, tmp_path).startswith(NOT_YAML[text])


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch ran]",
        "!!python/object/new:os.system [touch ran]",
        "!!python/object/apply:subprocess.check_call [[touch, ran]]",
        "!!python/object:fvpipe.config.pipeline.Pipeline {}",
        "!!python/name:os.system",
        "!!python/module:os",
        "!own 1",
    ],
)
@pytest.mark.parametrize("place", ["voi: {}", "{}", "? {}\n: 1", "segment: {{method: {} }}"])
def test_no_tag_runs_code(tag: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "could not determine a constructor for the tag" in rejected(place.format(tag), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_list_of_billions_is_not_printed(tmp_path: Path) -> None:
    """Ten lines of aliases stand for 9 ** 10 numbers."""
    lines = ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 10)]
    for use in ("size: *x9", "voi: *x9", "intensity: {percentiles: *x9}"):
        assert len(rejected("\n".join([*lines, use]), tmp_path)) < 3000


@pytest.mark.parametrize("data", [b"\xff\xfe" + "voi: none".encode("utf-16-le"), b"voi: \xe9", b"\x80"])
def test_not_utf_8(data: bytes, tmp_path: Path) -> None:
    assert rejected(data, tmp_path).startswith("cannot be read as UTF-8 text")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"nowhere\.yaml: no such file"):
        load_params(tmp_path / "nowhere.yaml")
    with pytest.raises(ParameterError, match="cannot be read \\(is not a regular file\\); expected a YAML file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null", "{}", "\ufeff", "segment: {}\nfuse: {}"], ids=repr)
def test_a_file_that_says_nothing_has_the_defaults(text: str, tmp_path: Path) -> None:
    assert pipeline(text, tmp_path) == Pipeline()


def test_byte_order_mark_and_line_ends_of_windows(tmp_path: Path) -> None:
    assert pipeline("\ufeffvoi: window\r\nsize: [512, 256]\r\n", tmp_path) == Pipeline(voi="window", size=(512, 256))


# --- the digest -------------------------------------------------------------------------------------------------------


def others(annotation: Any, value: Any) -> list[Any]:
    """Other values of a setting, enough to see that each part of it counts."""
    if typing.get_origin(annotation) is typing.Literal:
        # `equal_area` needs other values of other keys, too: it has a test of its own
        return [option for option in typing.get_args(annotation) if option not in (value, "equal_area")]
    if isinstance(value, bool):
        return [not value]
    if value is None:  # a number that is left out
        return [0.3]
    if value == tuple(CropVerdict):
        return [[verdict.value for verdict in value[:n]] for n in (1, 2, 3)]
    if value == ():  # names of targets
        return [["bi_rads"], ["age", "density"]]
    if isinstance(value, tuple):
        return [
            [*value[:i], value[i] + 1e-3 if isinstance(value[i], float) else value[i] + 1, *value[i + 1 :]] for i in range(2)
        ]
    assert isinstance(value, float), f"say here how to change {annotation}"
    return [value + 1e-3]


def leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every setting: where it is, its type and its value."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        elif name in model.model_dump():  # not the stretch of what is not warped
            yield (*path, name), field.annotation, value


def changed(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    return data | {head: changed(data[head], tuple(rest), value) if rest else value}


def test_every_key_changes_the_digest() -> None:
    """A key that did not would serve samples of another pipeline; `targets` are not part of a sample."""
    base = parse(Pipeline, {"segment": {"method": "otsu_log"}}, "base")
    data = base.model_dump(mode="json")
    variants = [
        parse(Pipeline, changed(data, path, value), ".".join(path))
        for path, annotation, found in leaves(base)
        for value in others(annotation, found)
    ]
    assert len(variants) > len(list(leaves(base))) >= 12
    with_targets = [each for each in variants if each.targets]
    assert {each.digest() for each in with_targets} == {base.digest()}
    assert len({each.digest() for each in [base, *variants]}) == len(variants) - len(with_targets) + 1
    assert len({each.canonical_yaml() for each in [base, *variants]}) == len(variants) + 1


EQUAL_AREA = {"segment": {"method": "otsu_log"}, "fuse": {"align": "each"}, "resize": {"method": "equal_area"}}


def test_keys_of_the_warp_change_its_digest_alone() -> None:
    """A pipeline without a warp has the digest that it had before there were warps."""
    stretched = {**EQUAL_AREA, "resize": {"method": "equal_area", "stretch": 0.4}}
    area = {**EQUAL_AREA, "resize": {"method": "area"}}
    assert len({parse(Pipeline, data, "warp").digest() for data in (EQUAL_AREA, stretched, area)}) == 3
    assert parse(Pipeline, area, "area").model_dump()["resize"] == {"method": "area", "aspect": "squeeze"}
    assert Pipeline().digest() == "9139350b435f9521a3b396418c0e92f2074808570601abc61cdf0977a622fa46"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": {"method": "none"}}, "needs a segment.method other than 'none'"),
        ({"fuse": {"align": "pad"}}, "fuse.align must be 'each'"),
        ({"size": [256, 255]}, "the fused side of size must be even"),
        ({"size": [255, 256], "fuse": {"layout": "stacked", "align": "each"}}, "the fused side of size must be even"),
        ({"resize": {"method": "equal_area", "aspect": "letterbox"}}, "resize.aspect must be 'squeeze'"),
        ({"resize": {"method": "area", "stretch": 0.5}}, "resize.stretch needs resize.method 'equal_area'"),
        ({"resize": {"method": "equal_area", "stretch": 1.1}}, "'resize.stretch': Input should be less than or equal to 1"),
    ],
)
def test_what_a_warp_needs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in rejected(yaml.safe_dump({**EQUAL_AREA, **changes}), tmp_path)


def without_defaults(model: BaseModel) -> dict[str, Any]:
    return dict(model.model_dump(mode="json", exclude_defaults=True))


def shuffled(data: Any, shuffle: random.Random) -> Any:
    if not isinstance(data, dict):
        return data
    return {key: shuffled(data[key], shuffle) for key in shuffle.sample(list(data), len(data))}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_form_of_a_file_does_not_change_the_digest(data: st.DataObject) -> None:
    """Order, comments, flow or block, and defaults left out or written out."""
    settings_ = Pipeline().model_dump(mode="json")
    settings_["segment"]["method"] = "otsu_log"
    for path, annotation, value in leaves(Pipeline()):
        if path != ("segment", "method") and data.draw(st.booleans()):
            settings_ = changed(settings_, path, data.draw(st.sampled_from(others(annotation, value))))
    expected = parse(Pipeline, settings_, "all keys")
    shuffle = data.draw(st.randoms(use_true_random=False))
    with tempfile.TemporaryDirectory() as folder:
        for content in (settings_, without_defaults(expected)):
            for flow in (None, True, False):
                text = yaml.safe_dump(shuffled(content, shuffle), sort_keys=False, default_flow_style=flow)
                found = pipeline(f"# a comment\n{text}  # and another\n", Path(folder))
                assert found == expected
                assert found.digest() == expected.digest()
                assert found.canonical_yaml() == expected.canonical_yaml()
        assert pipeline(expected.canonical_yaml(), Path(folder)) == expected  # what a shard carries


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    whole, fraction = (pipeline(f"segment: {{method: triangle, margin: {zero}}}", tmp_path) for zero in ("0", "0.0"))
    assert whole.digest() == fraction.digest()


def test_digests_of_plain_values() -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest_of({"a": [1, 2.5, "ü", None, True]}))
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert len({digest_of(value) for value in ([], {}, "", None, 0, False, ["a", "b"], ["ab"], [["a"], "b"])}) == 9
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(float("nan"))


# --- pipelines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_pipelines_load_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, settings_ = load_pipeline(name)
    assert found == name
    assert settings_ == load_pipeline(str(ROOT / "pipelines" / f"{name}.yaml"))[1]
    assert settings_.size == ((768, 768) if name == "fine" else (256, 256))


def test_the_pipelines_of_the_paper() -> None:
    assert {"direct", "cropped"} <= set(SHIPPED)
    direct, cropped = (load_pipeline(name)[1] for name in ("direct", "cropped"))
    assert direct == Pipeline()
    assert cropped.segment.method == "otsu_log"
    assert cropped.model_copy(update={"segment": direct.segment}) == direct
    assert len({load_pipeline(name)[1].digest() for name in SHIPPED}) == len(SHIPPED)


def test_the_projects_own_pipelines_win(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "cropped.yaml").write_text("size: [64, 64]")
    (tmp_path / "pipelines" / "mine.yaml").write_text("voi: window")
    assert load_pipeline("cropped", tmp_path)[1] == Pipeline(size=(64, 64))
    assert load_pipeline("mine", tmp_path) == ("mine", Pipeline(voi="window"))
    assert load_pipeline("direct", tmp_path)[1] == Pipeline()
    with pytest.raises(ParameterError, match=r"no pipeline 'mime' \(did you mean 'mine'\?\); known: .*cropped.*direct.*mine"):
        load_pipeline("mime", tmp_path)


def test_no_such_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"no pipeline 'croped' \(did you mean 'cropped'\?\); known: "):
        load_pipeline("croped")
    shutil.copy(ROOT / "pipelines" / "direct.yaml", tmp_path / "outside.yaml")
    (tmp_path / "pipelines").mkdir()
    for name in ("../outside", "", ".", "Direct", "direct\n", "a/b"):  # a name is never a path
        with pytest.raises(ParameterError, match="no pipeline"):
            load_pipeline(name, tmp_path)


def test_a_file_whose_name_cannot_name_a_folder(tmp_path: Path) -> None:
    for name in ("Own.yaml", "-x.yaml", "ü.yml", "a b.yaml"):
        (tmp_path / name).write_text("")
        with pytest.raises(ParameterError, match="its stem becomes a folder name"):
            load_pipeline(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a", True), ("vindr-mammo_2", True), ("0", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("A", False),
     ("-a", False), ("_a", False), ("a.b", False), ("a/b", False), ("..", False), ("ä", False), ("a\n", False), ("²", False)],
)  # fmt: skip
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain_name(name) is plain


# --- params.yaml ------------------------------------------------------------------------------------------------------


def test_own_params_load() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.datasets
    for name in params.pipelines:
        load_pipeline(name, ROOT)


PARAMS_MISTAKES = {
    "": "'datasets' is missing",
    "datasets: {}\npipeline: [direct]": "unknown key 'pipeline' (did you mean 'pipelines'?)",
    "datasets: {cbis: {adaptor: cbis}}": "'datasets.cbis.adapter' is missing; unknown key 'datasets.cbis.adaptor' (did you",
    "datasets: {cbis: {adapter: cbis, labels: {klasses: x}}}": "unknown key 'datasets.cbis.labels.klasses' (did you",
    "datasets: {../x: {adapter: cbis}}": "'datasets': name '../x': only a-z, 0-9",
    "datasets: {cbis: {adapter: cbis, made: 'yes'}}": "'datasets.cbis.made': Input should be a valid boolean, found 'yes'",
    "datasets: {a: {adapter: x, identifiers: hash}}": "'datasets.a.identifiers' is 'hash' (did you mean 'hashed'?)",
    "datasets: {a: {adapter: x, labels: {classes: {a: benign, A: malignant}}}}": "'datasets.a.labels.classes': 'A' is of two",
    "datasets: {a: {adapter: x, labels: {bi_rads_benign: [5], bi_rads_malignant: [5]}}}": "'datasets.a.labels': BI-RADS [5]",
    "datasets: {a: {adapter: x, labels: {patient_id: a, columns: {patient: b}}}}": "'datasets.a.labels': 'patient_id' and 'col",
    "datasets: {a: {adapter: x, labels: {bi_rads_benign: [7]}}}": "'datasets.a.labels': BI-RADS [7] does not exist",
    "datasets: {a: {adapter: x, labels: {bi_rads_benign: ['2']}}}": "'datasets.a.labels.bi_rads_benign.0': Input should be",
    "datasets: {a: {adapter: x, labels: {options: {wait: 90}}}}": (
        "'datasets.a.labels.options.wait' is read as 90; expected text: write it in quotes"
    ),
    "datasets: {a: {adapter: x, labels: {columns: {label: no}}}}": "'datasets.a.labels.columns.label' is read as false; ",
    "datasets: {}\nshards: {shard_count: 0}": "'shards.shard_count': Input should be greater than or equal to 1, found 0",
    "datasets: {}\nshards: {shard_count: 1.5}": "'shards.shard_count': Input should be a valid integer, found 1.5",
    "datasets: {}\npipelines: direct": "'pipelines' is 'direct'; expected a list, as in [a, b]",
    "datasets: {splits: {adapter: table}}": "data set 'splits': its tables would lie among those of splits",
    "datasets: {a: {adapter: x}}\nsplits:\n  b: {setting: kfold, datasets: [a]}\n  b-fold0: {setting: seen, datasets: [a]}": (
        "two splits would be written to b-fold0.csv"
    ),
    "datasets: {a: {adapter: x}}\ncompare: {dataset: b, pairs: {cropped: direct}}": "'compare': no data set 'b'; known: a",
    "datasets: {a: {adapter: x}}\ncompare: {dataset: a, pairs: {croped: direct}}": (
        "'compare': no pipeline 'croped' (did you mean 'cropped'?); known: direct, cropped"
    ),
    "datasets: {a: {adapter: x}}\ncompare: {datasets: a}": "unknown key 'compare.datasets' (did you mean 'dataset'?)",
}  # fmt: skip


@pytest.mark.parametrize("text", PARAMS_MISTAKES)
def test_a_mistake_in_params_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParameterError) as error:
        load_params(tmp_path / "params.yaml")
    assert str(error.value).removeprefix(f"{tmp_path / 'params.yaml'}: ").startswith(PARAMS_MISTAKES[text])


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Pipeline().voi = "lut"  # type: ignore[misc]
    assert Params(datasets={}).pipelines == ("direct", "cropped")


def test_settings_of_a_data_set_are_in_the_docs() -> None:
    """And the defaults of its label rules in params.yaml."""
    text = (ROOT / "docs" / "adapters.md").read_text()
    table = text.partition("## Settings of a data set")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(DataSet.model_fields)
    rules = Labels.model_validate(yaml.safe_load(re.findall(r"#   labels: (.*)", (ROOT / "params.yaml").read_text())[0]))
    assert rules == Labels() and all(f"`{key}`" in text for key in Labels.model_fields)


# --- training ---------------------------------------------------------------------------------------------------------


def train_of(**changed: Any) -> Params:
    """The project's own settings, with `train` changed."""
    settings = read_yaml(ROOT / "params.yaml")
    return parse(Params, settings | {"train": settings["train"] | changed}, "params.yaml")


def test_training_defaults_are_written_out() -> None:
    """What params.yaml says of a recipe is what the code would do without it."""
    train = load_params(ROOT / "params.yaml").train
    assert train.recipe(simulated=False) == Train().recipe(simulated=False)
    assert train.recipe(simulated=True) != train.recipe(simulated=False)
    assert train.recipe(simulated=True).weights == "none"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"leraning_rate": 1}, "unknown key 'train.leraning_rate'"),
        ({"lr": 0}, "'train.lr': Input should be greater than 0"),
        ({"schedule": "cosin"}, "'train.schedule' is 'cosin' (did you mean 'cosine'?)"),
        ({"min_epochs": 60}, "min_epochs 60 is more than epochs 50"),
        ({"demo": {"epoch": 1}}, "train.demo: unknown key 'epoch' (did you mean 'epochs'?)"),
        ({"betas": [0.9, 1.0]}, "betas must be two numbers"),
    ],
)
def test_wrong_training_settings_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        train_of(**changed)


def test_runs_name_splits_that_are_there() -> None:
    settings = read_yaml(ROOT / "params.yaml")
    settings["splits"]["folds"] = {"setting": "kfold", "datasets": ["phantom-cmmd"], "folds": 3}
    assert parse(Params, settings | {"runs": {"splits": ["folds-fold2"]}}, "p").split_of("folds-fold2").folds == 3
    with pytest.raises(ParameterError, match=re.escape("no split 'folds-fold3' (did you mean 'folds-fold")):
        parse(Params, settings | {"runs": {"splits": ["folds-fold3"]}}, "p")


@pytest.mark.parametrize("weights", ["resnet18.pth", "/models/resnet18.pth", "weights/../resnet18.pth", "data/w.pt"])
def test_weights_of_a_project_lie_where_the_dag_sees_them(weights: str) -> None:
    with pytest.raises(ValueError, match="a file in the folder weights/"):
        Train(weights=weights)
    with pytest.raises(ValueError, match="a file in the folder weights/"):
        Train(demo={"weights": weights})
    assert Train(weights="weights/resnet18.pth").recipe(simulated=False).weights == "weights/resnet18.pth"
    assert Recipe(weights=weights).weights == weights  # of a record, or of --weights
