"""Pairing: one test a rule, and that no record is ever lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import ImageFacts, LabelTable
from fvpipe.datasets.registry import get_adapter
from fvpipe.datasets.source import Source
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.flow import index
from fvpipe.indexing import pairing
from fvpipe.indexing.exams import with_stated_days
from fvpipe.indexing.files import pixel_contents
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.contradictions import contradictions
from fvpipe.indexing.notes import similar_patients_note
from fvpipe.indexing.pairing import Pairing, colliding_instances, pair, tied_images
from fvpipe.indexing.single_files import Reading, contradicted
from fvpipe.reasons import Reason, Rejection
from fvpipe.testing import index_folder
from fvpipe.types import (
    BREAST_FACTS,
    BreastFacts,
    BreastKey,
    Digest,
    Edge,
    Exam,
    Finding,
    ImageRecord,
    Laterality,
    Orientation,
    View,
)
from tests.support import factory

CC, MLO = View.CC, View.MLO
LEFT, RIGHT = Laterality.LEFT, Laterality.RIGHT
FACTS = BreastFacts(label=1, pathology="IDC")


def image(path: str, view: View = CC, **changes: Any) -> ImageRecord:
    """A left view of patient P in study S; its path is its instance."""
    values: dict[str, Any] = {
        "path": path, "patient_id": "P", "study": "S", "sop_instance_uid": f"uid {path}", "laterality": LEFT, "view": view,
        "rows": 4000, "columns": 3000, "bits_stored": 12, "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "row_spacing": None, "column_spacing": None, "manufacturer": "",
        "patient_age": "", "chest_wall": Edge.LEFT, "implant": False, "implant_displaced": False, "synthetic": False,
        "low_energy": False, "orientation": Orientation.UPRIGHT, "overlay": False, "shutter": True, "for_processing": False,
    }  # fmt: skip
    return ImageRecord(**values | changes)


def paired(*records: ImageRecord, **how: Any) -> Pairing:
    """With nothing said of any breast, unless it is."""
    contents = {record.path: Digest("same") for record in records}
    labels = BreastLabels(LabelTable(how.get("labels", {}), excluded_patients=how.get("excluded", {})))
    return pair("set", records, labels, contents | how.get("contents", {}))


def pairs(found: Pairing) -> list[tuple[str, ...]]:
    return [tuple(image.path for image in breast.images) for breast in found.breasts]


def reasons(found: Pairing) -> dict[str, Reason]:
    return {rejection.what: rejection.reason for rejection in found.rejections}


@pytest.mark.parametrize(
    "of_copy",
    [
        {"transfer_syntax_uid": "1.2.840.10008.1.2.4.50", "bits_stored": 8},
        {"transfer_syntax_uid": "1.2.840.10008.1.2.4.91"},
        {"bits_stored": 8},
    ],
)
def test_an_original_is_chosen_before_a_lossy_or_shallow_one_of_an_archive(of_copy: dict[str, Any]) -> None:
    """A view of 12 bits was paired with one of 8 whose UID came first."""
    originals = [image("1", CC, sop_instance_uid="1"), image("2", MLO, sop_instance_uid="4")]
    copies = [image("3", CC, sop_instance_uid="2", **of_copy), image("4", MLO, sop_instance_uid="3", **of_copy)]
    assert pairs(paired(*copies, *originals)) == [("1", "2")]
    assert pairs(paired(*copies, originals[0])) == [("3", "4")]


@pytest.mark.parametrize("study", ["", "S"])
def test_an_original_is_chosen_before_its_copy_and_two_copies_before_one_of_each(study: str) -> None:
    """A copy of 8 bits was chosen, for it has no UID, and a copy paired with an original that has another window."""

    def copy(path: str, view: View, form: str = "png", **changes: Any) -> ImageRecord:
        return image(path, view, transfer_syntax_uid=form, sop_instance_uid="", study=study, **changes)

    dicom = [image("0.dcm", CC, study=study), image("1.dcm", MLO, study=study)]
    png, jpeg = ([copy(f"{i}.{form}", view, form, rows=5000) for i, view in enumerate((CC, MLO))] for form in ("png", "jpeg"))
    for images, chosen in (
        ([*png, *dicom, *jpeg], dicom),
        ([*jpeg, *png], png),
        ([dicom[0], *png], png),
        ([png[1], *jpeg, dicom[0]], jpeg),
        ([dicom[0], png[1]], [dicom[0], png[1]]),
    ):
        for records in (images, images[::-1]):
            assert pairs(paired(*records)) == [tuple(each.path for each in chosen)]
    (alone,) = paired(png[0], dicom[0]).unpaired
    assert alone.breast.cc == dicom[0]


class Compared(str):
    """A study that counts how often it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


def test_images_of_one_patient_take_no_time_by_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anonymizers may give all patients one identifier: each image was compared with each other one."""
    monkeypatch.setattr(Compared, "times", 0)
    images = [image(str(i), study=Compared(f"S{i}")) for i in range(300)]
    of_others = {each.sop_instance_uid: ImageFacts(2, patient="P", exam=Exam(study="S0")) for each in images}
    found = list(contradictions(images, BreastLabels(LabelTable({("P", LEFT): BreastFacts(1)}, images=of_others))))
    assert [each.what for each in found] == [each.path for each in images[1:]]
    assert Compared.times < 20 * len(images)
    ranks = list[ImageRecord]()
    rank = pairing._rank
    monkeypatch.setattr(pairing, "_rank", lambda image: ranks.append(image) or rank(image))
    in_one_exam = [image(str(i)) for i in range(300)]
    assert tied_images(in_one_exam) == in_one_exam
    assert len(ranks) <= 2 * len(in_one_exam)


@pytest.mark.parametrize(
    ("header", "table", "conflict"),
    [
        ("040Y", "041Y", False), ("041Y", "040Y", False), ("040Y", "042Y", True), ("042Y", "040Y", True),
        ("090Y", "90+", False),
        ("90+", "089Y", False), ("90+", "088Y", True), ("90+", "90+", False), ("", "060Y", False),
        ("060Y", "", False),
    ],
)  # fmt: skip
def test_a_rounded_age_is_no_conflict(header: str, table: str, conflict: bool) -> None:
    labels = BreastLabels(LabelTable({("P", LEFT): BreastFacts(1, age=table)}))
    found = list(contradictions([image("1", patient_age=header)], labels))
    assert [rejection.reason for rejection in found] == [Reason.AGE_CONFLICT] * conflict


DAY = 700_000
MIXED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "ages": ([{"patient_age": "045Y"}, {"patient_age": "071Y"}], "Patient's Age"),
    "a birthday": ([{"patient_age": "045Y"}, {"patient_age": "046Y"}], ""),
    "above 90": ([{"patient_age": "90+"}, {"patient_age": "089Y"}], ""),
    "dates": ([{"exam_day": DAY}, {"exam_day": DAY + 400}], "the date (exam_date, else Study Date)"),
    "over midnight": ([{"exam_day": DAY}, {"exam_day": DAY + 1}], ""),
    "one date unknown": ([{"exam_day": DAY}, {}], ""),
    "sexes": ([{"person": "birth:1 sex:2"}, {"person": "birth:1 sex:3"}], "Patient's Sex"),
    "births and issuers": (
        [{"person": "birth:1 issuer:2"}, {"person": "birth:4 issuer:3"}], "Patient's Birth Date, Issuer of Patient ID",
    ),
    "a birth unknown": ([{"person": "birth:1 sex:2"}, {"person": "sex:2"}], ""),
    "another study": ([{"patient_age": "045Y"}, {"patient_age": "071Y", "study": "T"}], ""),
    "studies not told apart": ([{"patient_age": "045Y", "study": ""}, {"patient_age": "071Y", "study": ""}], ""),
    "exams of a table": ([{"exam_day": day, "identity_from": "exam table"} for day in (1, 9)], ""),
    "two years' exams by one name of a table": (
        [{"exam_day": day, "identity_from": "exam table"} for day in (1, 400)], "the date (exam_date, else Study Date)",
    ),
    "two ages by one name of a path": (
        [{"patient_age": age, "identity_from": "exam path"} for age in ("045Y", "049Y")], "Patient's Age",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_a_study_of_two_patients_or_exams_is_named(name: str) -> None:
    """As anonymizers make them that give all patients one identifier and all studies one UID."""
    changes, differing = MIXED[name]
    records = [image(view, view, **changed) for view, changed in zip(View, changes, strict=True)]
    found = list(contradictions(records, BreastLabels()))
    assert {each.what: each.reason for each in found} == (dict.fromkeys(View, Reason.IDENTIFIER_CONFLICT) if differing else {})
    assert all(f"have several values of {differing};" in each.detail for each in found)


SERIES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "another side and view": ([{"series": "1 R MLO"}, {"series": "2 L MLO"}], 1),
    "another side and view, twice": ([{"series": "1 R MLO"}, {"series": "1 R MLO", "view": CC}], 2),
    "its own": ([{"series": "1 L CC"}, {"series": "2 L MLO"}], 0),
    "that of the first of several images": ([{"series": "1 R MLO"}, {"series": "1 R MLO"}], 0),
    "another side": ([{"series": "1 R CC"}, {"series": "2 R MLO"}], 0),
    "another view": ([{"series": "1 L MLO"}, {"series": "2 L CC"}], 0),
    "none": ([{"series": "1"}, {"series": ""}], 0),
    "one series, two descriptions": ([{"series": "1 R MLO"}, {"series": "1", "view": CC}], 0),
    "side and view of a table": ([{"series": "1 R MLO", "identity_from": "laterality table, view table"}], 0),
}


def of_an_exam(*said: str, **changed: str) -> list[ImageRecord]:
    """Left and right CC and MLO, in series that are described so, each in its own unless `changed` says otherwise."""
    views = [(side, view) for side in (LEFT, Laterality.RIGHT) for view in View]
    return [
        image(str(i), laterality=side, view=view, series=f"{changed.get('series', i)} {words}".strip())
        for i, ((side, view), words) in enumerate(zip(views, said, strict=False))
    ]


@pytest.mark.parametrize(
    ("records", "conflicts"),
    [
        (of_an_exam("R CC", "L MLO", "L CC", "R MLO"), {"0": Reason.LATERALITY_CONFLICT, "2": Reason.LATERALITY_CONFLICT}),
        (of_an_exam("L CC", "L MLO", "R CC", "L MLO"), {"3": Reason.LATERALITY_CONFLICT}),
        (of_an_exam("L CC", "L CC", "R CC", "R MLO"), {"1": Reason.VIEW_CONFLICT}),
        (of_an_exam("L CC", "L MLO", "R CC", "R MLO"), {}),
        (of_an_exam("L CC", "L MLO", "R CC", ""), {}),
        (of_an_exam("L MLO", "L MLO", "L MLO", "L MLO"), {}),  # of the exam's first image, in series made of one
        (of_an_exam("R CC", "R MLO"), {}),  # of series for each view, whose right images are not there
        (of_an_exam("L CC", "L CC", "R CC", "R CC"), {}),  # of the first of both images
        (of_an_exam("R CC", "R CC", "R CC", "R CC", series="1"), {}),
        ([*of_an_exam("R CC", "L MLO", "R MLO"), *of_an_exam("R CC", "R CC", series="9")], {}),
    ],
    ids=range(10),
)
def test_a_description_of_another_side_where_each_series_has_its_own(
    records: list[ImageRecord], conflicts: dict[str, Reason]
) -> None:
    found = {each.what: each.reason for each in contradictions(records, BreastLabels())}
    assert found == conflicts


@pytest.mark.parametrize("name", SERIES)
def test_a_series_that_is_described_as_another(name: str) -> None:
    changes, count = SERIES[name]
    records = [
        image(str(i), **({"view": view} | changed)) for i, (view, changed) in enumerate(zip(View, changes, strict=False))
    ]
    found = list(contradictions(records, BreastLabels()))
    assert [each.reason for each in found] == [Reason.VIEW_CONFLICT] * count
    assert all(each.detail.startswith("the header says L CC, the description of its series R MLO") for each in found)


def test_a_description_is_read_from_the_header(tmp_path: Path) -> None:
    for view, description in ((CC, "R MLO, screening"), (MLO, "Routine")):
        tags = {"SeriesInstanceUID": f"2.25.{len(view)}", "SeriesDescription": description}
        factory.mammogram(tmp_path / view, factory.breast(), view=view, **tags)
    headers = [read_header(tmp_path, view, HeaderPolicy(identifier_key=b"k" * 32)) for view in View]
    records = [header.record for header in headers if isinstance(header, ImageHeader)]
    assert [record.series.split(" ")[1:] for record in records] == [["R", "MLO"], []]
    assert [each.what for each in contradictions(records, BreastLabels())] == ["CC"]


@pytest.mark.parametrize(("policy", "count"), [(HeaderPolicy(), 2), (HeaderPolicy(secondary_capture=True), 0)])
def test_films_of_one_exam_of_a_table_may_be_digitized_years_apart(policy: HeaderPolicy, count: int) -> None:
    """In an index, and for the files of `fvpipe predict`."""
    records = [image(view, view, exam_day=day, identity_from="exam table") for view, day in zip(View, (1, 400), strict=True)]
    assert len(list(contradictions(records, BreastLabels(policy=policy)))) == count
    labels = BreastLabels(policy=policy)
    found = contradicted(records, {record.path: Reading(policy, path=record.path, labels=labels) for record in records})
    assert len({each.what for each in found}) == count


TWO = {
    "PatientBirthDate": ("19660101", "19651231", "Patient's Birth Date"),
    "PatientSex": ("F", "M", "Patient's Sex"),
    "IssuerOfPatientID": ("Site A", "SITE B", "Issuer of Patient ID"),
    "PatientAge": ("045Y", "071Y", "Patient's Age"),
    "StudyDate": ("20110101", "20150101", "the date (exam_date, else Study Date)"),
}


@pytest.mark.parametrize("keyword", TWO)
@pytest.mark.parametrize("key", [b"", b"k" * 32])
def test_two_women_under_one_identifier_are_not_paired(keyword: str, key: bytes, tmp_path: Path) -> None:
    made, (*values, name) = factory.breast(), TWO[keyword]
    records = []
    for view, value in zip(View, values, strict=True):
        factory.mammogram(tmp_path / view, made, view=view, **{keyword: value})
        header = read_header(tmp_path, view, HeaderPolicy(identifier_key=key))
        assert isinstance(header, ImageHeader)
        records.append(header.record)
    assert not any(value in repr(record.person) for record, value in zip(records, values, strict=True))
    found = list(contradictions(records, BreastLabels()))
    assert len(found) == 2 and all(f"have several values of {name};" in each.detail for each in found)


# --- which images make a breast ---------------------------------------------------------------------------------------


def test_the_list_of_facts_is_that_of_the_class() -> None:
    """Where a fact is missing in it, tables are merged, counted and explained without it."""
    others = {"label", "excluded", "place", "pending", "severity", "targets"}
    assert set(BREAST_FACTS) == {field.name for field in fields(BreastFacts)} - others


def test_two_views_make_a_breast() -> None:
    cc, mlo = image("1"), image("2", MLO)
    found = paired(mlo, cc, labels={("P", LEFT): FACTS})
    (breast,) = found.breasts
    assert breast.views == (cc, mlo)
    assert (breast.key, breast.facts) == (BreastKey("set", "P", "S", LEFT), FACTS)
    assert breast.key.breast_id == "P_S_L"
    assert not found.rejections


@pytest.mark.parametrize("other", [{"laterality": RIGHT}, {"patient_id": "Q"}, {"study": "T"}, {"study": ""}], ids=str)
def test_views_of_different_breasts_do_not_pair(other: dict[str, Any]) -> None:
    found = paired(image("1"), image("2", MLO, **other))
    assert not found.breasts
    assert sorted(reasons(found).values()) == [Reason.CC_MISSING, Reason.MLO_MISSING]


def test_without_studies_all_images_of_a_patient_are_one() -> None:
    found = paired(image("1", study=""), image("2", MLO, study=""))
    assert [breast.key.breast_id for breast in found.breasts] == ["P_L"]


OF_DAYS: dict[str, list[tuple[View, dict[str, Any]]]] = {  # the pair stands first; all else prefers the others
    "the first day": [(CC, {"exam_day": 1}), (MLO, {"exam_day": 1}), (CC, {"exam_day": 9}), (MLO, {"exam_day": 9})],
    "a better kind on a later day": [
        (CC, {"exam_day": 9}), (MLO, {"exam_day": 9}),
        *((view, {"exam_day": 1, "for_processing": True}) for view in View),
    ],
    "of a worse kind, where the better ones are of two days": [
        (CC, {"exam_day": 1, "synthetic": True}), (MLO, {"exam_day": 1, "synthetic": True}),
        (CC, {"exam_day": 1}), (MLO, {"exam_day": 9}),
    ],
    "a day before none": [(CC, {"exam_day": 9}), (MLO, {"exam_day": 9}), (MLO, {}), (CC, {})],
    "a better kind without a day": [(CC, {}), (MLO, {}), *((view, {"exam_day": 1, "synthetic": True}) for view in View)],
    "a third view of another day": [(CC, {"exam_day": 9}), (MLO, {"exam_day": 9}), (MLO, {"exam_day": 1})],
    "views of two days, where no others are": [(CC, {"exam_day": 1}), (MLO, {"exam_day": 9})],
    "views of a day and of none": [(CC, {"exam_day": 1}), (MLO, {})],
}  # fmt: skip


@pytest.mark.parametrize("exam", [{"study": ""}, {"identity_from": "exam path"}], ids=["none", "path"])
@pytest.mark.parametrize("name", OF_DAYS)
def test_views_of_one_day_pair_before_views_of_two(name: str, exam: dict[str, str]) -> None:
    records = [image(str(9 - i), view, rows=4000 + i, **exam, **tags) for i, (view, tags) in enumerate(OF_DAYS[name])]
    for order in (records, records[::-1]):
        assert pairs(paired(*order)) == [("9", "8")]


def test_days_count_for_nothing_where_exams_are_told_apart() -> None:
    """An exam may go on after midnight, and be repeated then in part."""
    found = paired(image("1", exam_day=1), image("2", MLO, exam_day=1), image("3", exam_day=2, rows=5000))
    assert pairs(found) == [("3", "2")]


def test_boxes_on_an_image_that_is_not_taken_are_noted() -> None:
    """A breast whose lesion is outlined on a second CC seemed to have no finding."""
    records = [image("1", sop_instance_uid="1"), image("2", MLO), image("3", sop_instance_uid="3")]
    box = Finding("mass", None, 1, 9, 1, 9)
    for marked, count in (("1", 0), ("3", 1)):
        found = pair("set", records, BreastLabels(LabelTable(findings={marked: [box]})), {})
        assert sum(map(len, found.breasts[0].findings)) == 1 - count
        assert [note[:48] for note in found.notes] == ["boxes of 1 image(s) are in no sample, since anot"] * count


@pytest.mark.parametrize(
    ("stated", "days"),
    [
        ({"a": "2020", "b": "2019"}, {"a": 365, "b": 0, "c": None}),
        ({"a": "2020", "b": "20200101"}, {"a": None, "b": None, "c": None}),
        ({"d": "2020"}, {}),
    ],
)
def test_days_of_tables_and_of_headers_are_not_compared(stated: dict[str, str], days: dict[str, int | None]) -> None:
    """`exam_date` had no effect where the header alone names the patient, and was compared with dates of other headers."""
    policy = HeaderPolicy(identifier_key=b"k" * 32)
    records = [image(name, patient_id="Q" if name == "q" else "P", exam_day=7) for name in "abcq"]
    found = {each.path: each.exam_day for each in with_stated_days(records, stated, policy)}
    first = min((day for day in found.values() if day is not None), default=0)
    assert {name: None if day is None else day - first for name, day in found.items()} == days


def test_views_of_one_manufacturer_pair_before_views_of_two() -> None:
    """An exam on two machines: the larger CC has its MLO of the same machine, and kind goes before machine."""
    a: dict[str, Any] = {"manufacturer": "A"}
    b: dict[str, Any] = {"manufacturer": "B"}
    records = [image("1", **a), image("2", MLO, **a, rows=100), image("3", MLO, **b), image("4", **b, rows=100)]
    for order in (records, records[::-1]):
        assert pairs(paired(*order)) == [("1", "2")]
    assert pairs(paired(*records[:1], records[2])) == [("1", "3")]
    synthetic = [image(f"9{view}", view, **a, synthetic=True) for view in View]
    assert pairs(paired(records[0], records[2], *synthetic)) == [("1", "3")]


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("views", "reason", "detail"),
    [
        ([CC], Reason.MLO_MISSING, "1 CC and 0 MLO; expected one of each"),
        ([CC, CC], Reason.MLO_MISSING, "2 CC and 0 MLO; expected one of each"),
        ([MLO, MLO, MLO], Reason.CC_MISSING, "0 CC and 3 MLO; expected one of each"),
    ],
)
def test_one_view_alone_is_no_breast(views: list[View], reason: Reason, detail: str) -> None:
    found = paired(*(image(str(i), view) for i, view in enumerate(views)))
    assert found.rejections == (Rejection("P_S_L", reason, detail),)


BETTER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full-field before synthetic": ({"path": "z", "rows": 100}, {"synthetic": True}),
    "one that is known to be upright": ({"path": "z", "rows": 100}, {"orientation": Orientation.UNKNOWN}),
    "the larger image": ({"path": "z", "columns": 3001}, {"rows": 4000}),
    "the smaller instance UID": ({"path": "z", "sop_instance_uid": "1.2.3"}, {"sop_instance_uid": "1.2.4"}),
    "the first path, where there is no UID": ({"path": "b", "sop_instance_uid": ""}, {"sop_instance_uid": ""}),
}


@pytest.mark.fault(26)
@pytest.mark.parametrize("rule", BETTER)
@pytest.mark.parametrize("view", View)
def test_the_better_of_several(rule: str, view: View) -> None:
    better, worse = BETTER[rule]
    good, bad = image(**{"view": view} | better), image("c", view, **worse)
    third = image("d", view, **worse | {"rows": 50, "sop_instance_uid": ""})
    found = paired(third, bad, good, image("a", MLO if view is CC else CC))
    assert set(pairs(found)[0]) == {"a", good.path}
    assert reasons(found) == {"c": Reason.SUPERSEDED, "d": Reason.SUPERSEDED}
    assert f"another {view} of breast P_S_L was chosen" in found.rejections[0].detail


PLAIN: dict[str, Any] = {"implant": True}
DISPLACED: dict[str, Any] = {"implant": True, "implant_displaced": True}


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("records", "expected", "rejected"),
    [
        ([image("1", **PLAIN), image("2", MLO, **DISPLACED)], [], {"P_S_L": Reason.IMPLANT_MISMATCH}),
        ([image("1", **DISPLACED), image("2", MLO, **PLAIN)], [], {"P_S_L": Reason.IMPLANT_MISMATCH}),
        ([image("1", **DISPLACED), image("2", MLO, **DISPLACED)], [("1", "2")], {}),
        (
            [image("1", **PLAIN), image("2", **DISPLACED), image("3", MLO, **DISPLACED)],
            [("2", "3")],
            {"1": Reason.SUPERSEDED},
        ),
        (
            [image("1", **PLAIN), image("2", MLO, **PLAIN), image("3", **DISPLACED), image("4", MLO, **DISPLACED)],
            [("1", "2")],
            {"3": Reason.SUPERSEDED, "4": Reason.SUPERSEDED},
        ),
    ],
)
def test_implant_displaced_views_pair_with_their_like(
    records: list[ImageRecord], expected: list[tuple[str, str]], rejected: dict[str, Reason]
) -> None:
    found = paired(*records)
    assert pairs(found) == expected
    assert reasons(found) == rejected


KINDS: dict[str, dict[str, Any]] = {
    "full-field": {}, "low-energy": {"low_energy": True}, "synthetic": {"synthetic": True},
    "for processing": {"for_processing": True},
}  # fmt: skip


@pytest.mark.parametrize(("better", "worse"), [*combinations(KINDS, 2)])
def test_views_pair_with_their_own_kind(better: str, worse: str) -> None:
    """In the order of preference, however large the others are; a mixed pair is none."""
    large: dict[str, Any] = {"rows": 9000}
    good, bad = KINDS[better], KINDS[worse]
    found = paired(image("1", **good), image("2", MLO, **good), image("3", **bad, **large), image("4", MLO, **bad, **large))
    assert pairs(found) == [("1", "2")]
    found = paired(image("1", **good, **large), image("3", **bad), image("4", MLO, **bad))
    assert (pairs(found), reasons(found)) == ([("3", "4")], {"1": Reason.SUPERSEDED})
    for cc, mlo in ((better, worse), (worse, better)):
        mixed = paired(image("1", **KINDS[cc]), image("2", MLO, **KINDS[mlo]))
        detail = f"CC: {cc}; MLO: {mlo}; expected both of one kind"
        assert mixed.rejections == (Rejection("P_S_L", Reason.KIND_MISMATCH, detail),)


def test_kinds_that_differ_in_more_than_the_implant() -> None:
    found = paired(image("1", **PLAIN), image("2", MLO, **DISPLACED, synthetic=True))
    detail = "CC: full-field; MLO: synthetic and implant displaced; expected both of one kind"
    assert found.rejections == (Rejection("P_S_L", Reason.KIND_MISMATCH, detail),)


# --- the choice between equals ----------------------------------------------------------------------------------------


def test_the_published_uid_chooses_between_equals() -> None:
    """Not its keyed digest, whose order hangs on the key."""
    records = [image("a", sop_instance_uid="digest 1"), image("b", sop_instance_uid="digest 2"), image("mlo", MLO)]
    assert tied_images(records) == records[:2]
    for first, second in (("1.2", "1.3"), ("1.3", "1.2")):
        found = pair("set", records, BreastLabels(), {}, {"a": first, "b": second})
        assert pairs(found) == [("a" if first < second else "b", "mlo")]
    absent = pair("set", records, BreastLabels(), {}, {"a": "", "b": ""})
    assert pairs(absent) == [("a", "mlo")]


def test_images_that_differ_are_no_tie() -> None:
    others: list[dict[str, Any]] = [{"rows": 1}, {"synthetic": True}, {"study": "T"}, {"laterality": RIGHT}, {"view": MLO}]
    assert not tied_images([image("a"), *(image(f"b{i}", **{"view": CC} | other) for i, other in enumerate(others))])


@pytest.mark.parametrize("key", ["", "00" * 32, "11" * 32], ids=["no key", "one key", "another"])
def test_the_same_choice_with_any_key(tmp_path: Path, key: str) -> None:
    """Eight like CC of one breast: the one with the first UID, though their digests have any order."""
    uids = [f"2.25.{i}" for i in (57, 13, 84, 31, 76, 42, 95, 68)]
    for i, uid in enumerate(uids):
        factory.mammogram(tmp_path / "in" / f"{i}.dcm", factory.breast(i), SOPInstanceUID=uid)
    factory.mammogram(tmp_path / "in" / "mlo.dcm", factory.breast(view=MLO), view=MLO)
    adapter = get_adapter("table")
    source = Source("own", tmp_path / "in", adapter, None, Labels(), False, False, bytes.fromhex(key), "")
    with FileCache(tmp_path / "cache.sqlite", source.root, source.policy) as cache, Workers(WorkerSettings(1)) as workers:
        for _ in range(2):  # from the files, then from the file cache
            (breast,) = index(source, workers, cache).breasts
            assert breast.images[0].path == f"{uids.index(min(uids))}.dcm"


# --- the same instance again ------------------------------------------------------------------------------------------


def test_colliding_instances_are_those_with_a_uid_in_common() -> None:
    records = [image("b", sop_instance_uid="1"), image("a", sop_instance_uid="1"), image("c"), image("d", sop_instance_uid="")]
    assert [
        [record.path for record in group] for group in colliding_instances([*records, image("e", sop_instance_uid="")])
    ] == [["a", "b"]]


def test_copies_that_cannot_be_decoded_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        factory.mammogram(tmp_path / "in" / name, factory.breast(), RLELossless, SOPInstanceUID="2.25.1")
    data = (tmp_path / "in" / "b").read_bytes()
    half = len(data) // 2
    (tmp_path / "in" / "b").write_bytes(data[:half] + bytes(half - 16) + data[-(len(data) - 2 * half + 16) :])
    reasons = {each.what: each.reason for each in index_folder(tmp_path / "in", "table").rejections}
    assert reasons["b"] is Reason.PIXELS_TRUNCATED
    monkeypatch.setattr(pixel_contents, "decode_image", None)
    assert {each.what: each.reason for each in index_folder(tmp_path / "in", "table").rejections} == reasons


def test_same_instance_and_pixels_is_kept_once() -> None:
    copies = [image(path, sop_instance_uid="1", manufacturer=path) for path in "cab"]
    found = paired(*copies, image("mlo", MLO))
    assert pairs(found) == [("a", "mlo")]
    assert reasons(found) == {"b": Reason.DUPLICATE_INSTANCE, "c": Reason.DUPLICATE_INSTANCE}


OTHER_CONTENT: list[tuple[dict[str, Any], str]] = [
    ({}, "other"),
    ({"laterality": RIGHT}, "same"),
    ({"view": MLO}, "same"),
    ({"patient_id": "Q"}, "same"),
    ({"study": "T"}, "same"),
    ({"orientation": Orientation.MIRRORED}, "same"),
    ({"low_energy": True}, "same"),
    ({"photometric_interpretation": "MONOCHROME1"}, "same"),
    ({"bits_stored": 8}, "same"),
]


@pytest.mark.parametrize(("header", "pixels"), OTHER_CONTENT, ids=str)
def test_same_instance_with_other_content_is_trusted_nowhere(header: dict[str, Any], pixels: str) -> None:
    """Neither pixels nor whose they are may be guessed."""
    first = image("a", sop_instance_uid="1")
    second = image("b", **{"view": CC, "sop_instance_uid": "1"} | header)
    found = paired(first, second, image("mlo", MLO), contents={"b": Digest(pixels)})
    assert not found.breasts
    assert reasons(found) == {"a": Reason.INSTANCE_CONFLICT, "b": Reason.INSTANCE_CONFLICT, "P_S_L": Reason.CC_MISSING}


# --- what is known of the breast --------------------------------------------------------------------------------------


def test_labels_are_by_patient_and_side() -> None:
    records = [image(f"{side}{view}", view, laterality=side) for side in Laterality for view in View]
    found = paired(*records, labels={("P", RIGHT): FACTS})
    assert [(breast.key.laterality, breast.facts.label) for breast in found.breasts] == [(LEFT, -1), (RIGHT, 1)]


EXCLUDED: dict[str, dict[str, Any]] = {
    "breast": {"labels": {("P", LEFT): BreastFacts(excluded="BI-RADS 1")}},
    "patient": {"labels": {("P", LEFT): FACTS}, "excluded": {"P": "BI-RADS 1"}},
}


@pytest.mark.parametrize("how", EXCLUDED.values(), ids=EXCLUDED)
def test_excluded_breasts_say_why(how: dict[str, Any]) -> None:
    found = paired(image("1"), image("2"), image("3", MLO), **how)
    assert not found.breasts
    assert found.rejections == (
        Rejection("2", Reason.SUPERSEDED, "another CC of breast P_S_L was chosen"),
        Rejection("P_S_L", Reason.LABEL_EXCLUDED, "BI-RADS 1"),
    )


def test_label_without_an_image() -> None:
    """A breast with an image that does not pair is named once, by that."""
    labels = {("P", LEFT): FACTS, ("P", RIGHT): FACTS, ("Q", LEFT): FACTS}
    assert reasons(paired(image("1"), labels=labels)) == {
        "P_S_L": Reason.MLO_MISSING,
        "P_R": Reason.LABEL_WITHOUT_IMAGE,
        "Q_L": Reason.LABEL_WITHOUT_IMAGE,
    }


def test_label_of_a_breast_whose_images_were_all_refused() -> None:
    """The images name it: its row is not without an image."""
    twins = [image("a", sop_instance_uid="1"), image("b", sop_instance_uid="1")]
    found = paired(*twins, labels={("P", LEFT): FACTS}, contents={"b": Digest("other")})
    assert reasons(found) == {"a": Reason.INSTANCE_CONFLICT, "b": Reason.INSTANCE_CONFLICT}


# --- for any records --------------------------------------------------------------------------------------------------

BREASTS = st.tuples(st.sampled_from(["P", "Q"]), st.sampled_from(Laterality))


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Few patients and instances, so that everything collides with everything."""
    studies = draw(st.sampled_from([["S", "T"], [""]]))
    count = draw(st.integers(0, 14))
    records = [
        image(
            f"{number}.dcm",
            draw(st.sampled_from(View)),
            patient_id=draw(st.sampled_from(["P", "Q"])),
            study=draw(st.sampled_from(studies)),
            laterality=draw(st.sampled_from(Laterality)),
            sop_instance_uid=draw(st.sampled_from(["", "1", "2", *(f"own {number} {i}" for i in range(3))])),
            rows=draw(st.sampled_from([100, 200])),
            implant_displaced=draw(st.booleans()),
            synthetic=draw(st.booleans()),
            low_energy=draw(st.booleans()),
            overlay=False,
            shutter=False,
            for_processing=False,
        )
        for number in range(count)
    ]
    facts = st.builds(BreastFacts, label=st.sampled_from([-1, 0, 1]), excluded=st.sampled_from(["", "", "no"]))
    return {
        "records": records,
        "labels": draw(st.dictionaries(BREASTS, facts)),
        "excluded": draw(st.dictionaries(st.sampled_from(["P", "Q"]), st.just("no"), max_size=1)),
        "contents": {record.path: Digest(draw(st.sampled_from("xxy"))) for record in records},
    }


def outcome(world: dict[str, Any]) -> Pairing:
    return paired(*world["records"], **world)


@pytest.mark.fault(26)
@settings(max_examples=150, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_order_never_matters(world: dict[str, Any], shuffle: Any) -> None:
    expected = outcome(world)
    shuffle.shuffle(world["records"])
    for name in ("labels", "excluded", "contents"):
        world[name] = dict(shuffle.sample(list(world[name].items()), len(world[name])))
    assert outcome(world) == expected


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_every_record_is_in_exactly_one_place(world: dict[str, Any]) -> None:
    found = outcome(world)
    used = Counter(record.path for breast in found.breasts for record in breast.images)
    rejected = Counter(rejection.what for rejection in found.rejections)
    breasts = {breast.key.breast_id for breast in found.breasts}
    ids = {
        record.path: BreastKey("set", record.patient_id, record.study, record.laterality).breast_id
        for record in world["records"]
    }
    assert len(breasts) == len(found.breasts)
    assert not breasts & rejected.keys()
    assert max([*used.values(), *rejected.values(), 0]) <= 1
    for record in world["records"]:
        by_its_breast = rejected[ids[record.path]] and not rejected[record.path]
        assert used[record.path] + rejected[record.path] + by_its_breast == 1, record
    # And nothing is rejected that was not there.
    rows = {f"{patient}_{side}" for patient, side in world["labels"]}
    assert rejected.keys() <= ids.keys() | set(ids.values()) | rows


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_what_pairs_belongs_together(world: dict[str, Any]) -> None:
    found = outcome(world)
    for breast in found.breasts:
        key = breast.key
        assert [image.view for image in breast.images] == [CC, MLO]
        assert len({image.implant_displaced for image in breast.images}) == 1
        for record in breast.images:
            assert (record.patient_id, record.study, record.laterality) == (key.patient, key.study, key.laterality)
        assert breast.facts == world["labels"].get((key.patient, key.laterality), BreastFacts())
        assert not breast.facts.excluded
        assert key.patient not in world["excluded"]
    assert [breast.key for breast in found.breasts] == sorted(breast.key for breast in found.breasts)
    assert list(found.rejections) == sorted(found.rejections, key=lambda r: (r.what, r.reason, r.detail))


@pytest.mark.parametrize(
    ("first", "second", "noted"),
    [
        ("name:1", "name:1", True),
        ("birth:a name:1", "name:1", True),
        ("birth:a name:1", "birth:b name:1", False),
        ("issuer:a name:1", "issuer:b name:1", False),
        ("name:1", "name:2", False),
        ("sex:a", "sex:a", False),  # patients that no header names
    ],
)
def test_patients_of_headers_that_may_be_one_are_noted(first: str, second: str, noted: bool) -> None:
    records = [image("a", patient_id="1", person=first), image("b", patient_id="01", person=second)]
    notes = list(similar_patients_note(records))
    assert len(notes) == noted and all("2 patients of headers" in note and "those of a and b" in note for note in notes)


def test_views_in_two_studies_are_named() -> None:
    """Of one or no day: exams of two days, or of a table, are not a fault, nor is a breast whose views are of two kinds."""
    two = [image("cc", study="A"), image("mlo", MLO, study="B")]
    (note,) = paired(*two).notes
    assert note.startswith("1 breast(s) have CC and MLO in two studies, as cc and mlo") and "studies_apart: false" in note
    assert not paired(image("cc", study="A", exam_day=1), image("mlo", MLO, study="B", exam_day=9)).notes
    assert not paired(*(replace(each, identity_from="patient path, exam table") for each in two)).notes
    assert not paired(image("cc"), image("mlo", MLO, synthetic=True)).notes
    assert not paired(*(image(f"{n}{view}", view, study=f"{n}") for n in range(2) for view in View)).notes


@pytest.mark.parametrize(
    ("exam", "hint"), [(Exam(accession="A"), "no Accession Number"), (Exam(date="D"), "no Study Date"), (Exam(study="T"), "")]
)
def test_an_exam_that_no_header_names_is_told_so(exam: Exam, hint: str) -> None:
    labels = BreastLabels(LabelTable(exams={("P", LEFT, exam): FACTS}))
    ((rejection, shown),) = labels.unmatched_rows([image("cc"), image("mlo", MLO)])
    assert (rejection.detail.rpartition("; its images have ")[2] == hint, shown) == (bool(hint), bool(hint))
