"""Which images can stand for a view, as the headers of several vendors say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.sequence import Sequence

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.project import DataSet
from fvpipe.dicom.header import read_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.rules.languages import english
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.flow import index
from fvpipe.project.project import make_source
from fvpipe.reasons import Reason, Rejection
from fvpipe.testing.folder import write_image
from fvpipe.types import ImageRecord, View
from tests.support import factory

CC, MLO = factory.VIEW_CODES[factory.CC], factory.VIEW_CODES[factory.MLO]

MADE = factory.breast()
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def read(folder: Path, **tags: Any) -> ImageRecord | Rejection:
    """The record of a left CC with these tags."""
    factory.mammogram(folder / "x.dcm", MADE, **tags)
    header = read_header(folder, "x.dcm", HeaderPolicy())
    return header if isinstance(header, Rejection) else header.record


def said(description: str, characters: str = "ISO_IR 192") -> dict[str, Any]:
    """A description in another language, which alone tells the kind of a processed image."""
    return kind("DERIVED\\PRIMARY", description, SpecificCharacterSet=characters)


def kind(image_type: str | None = None, description: str | None = None, **tags: Any) -> dict[str, Any]:
    return {"ImageType": image_type and image_type.split("\\"), "SeriesDescription": description, **tags}


TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
NAMES_OF_THE_EXAM = (
    "유방조영술 L CC", "유방촬영술", "乳房X光造影 L CC", "乳房造影檢查", "乳腺造影", "乳腺钼靶摄影 左 CC",
    "マンモグラフィ 左 CC", "乳房撮影", "маммография левая CC", "маммография бесконтрастная",
    "Mammographie bilatérale", "Mammographie face gauche", "oblique gauche", "Mamografía bilateral",
    "Mamografía oblicua medio lateral izquierda", "Mammografia bilaterale", "cranio-caudale destra",
    "proiezione obliqua medio-laterale sinistra", "Mammografi venstre CC", "Vänster MLO", "Mamografi sol CC",
    "mammografia lewa CC", "Mammographie bds., Kontrolle", "Mamografia de rastreio", "Levá prsa CC",
    "μαστογραφία CC",
)  # fmt: skip
FULL_FIELD = {
    "oblique, in full": kind(description="Left ML Oblique"),
    "a protocol of several views": kind(ProtocolName="DIAG L ML, MLO, CC"),
    **{
        name: kind(description=name)
        for name in (
            "Left Lateral Oblique",
            "RT medio-lateral oblique",
            "bilateral left",
            "100 ml, left CC",
            "Mammo uni-lateral right",
            "face et profil droit",
            "L CC, no mag",
            "Mammo uni lat left",
            "L lat oblique",
            "L CC, lat",
        )
    },
    **{
        name: said(name)
        for name in (
            "oblique médio-latérale gauche",
            "links schräg, MLO",
            "obliqua medio-laterale sinistra",
            "mono-laterale destra",
        )
    },
    "a room": kind(ProtocolName="Mammo Right Rm 2"),
    "nothing is said (VinDr-Mammo)": kind(),
    "CMMD, RSNA, Hologic": kind("DERIVED\\PRIMARY"),
    "GE: value 3 empty": kind("ORIGINAL\\PRIMARY\\"),
    "Fujifilm": kind("ORIGINAL\\PRIMARY\\POST_PROCESSED\\\\\\\\\\50000"),
    "secondary": kind("DERIVED\\SECONDARY"),
    "value 4 NONE": kind("DERIVED\\PRIMARY\\\\NONE"),
    "slices of the exam": kind("ORIGINAL\\PRIMARY", "Combo, slices and 2D"),
    "a code by its meaning": kind(ViewCodeSequence=Sequence([factory.item(CodeMeaning="cranio-caudal")])),
    "a bilateral region": kind(
        AnatomicRegionSequence=Sequence(
            [factory.item(AnatomicRegionModifierSequence=Sequence([*factory.coded("24028007"), *factory.coded("7771000")]))]
        )
    ),
    "a conventional view of a combo exam": kind("ORIGINAL\\PRIMARY", "L CC Tomosynthesis Combo Conventional"),
    "a processed view of a combo exam": kind("DERIVED\\PRIMARY", "MAMMO SCREENING TOMOSYNTHESE BILATERAL"),
    "an exam that has synthetic views, too": kind("ORIGINAL\\PRIMARY", "Combo HD with C-View"),
    "an exam with contrast": kind("ORIGINAL\\PRIMARY", "CESM bilateral"),
    "an exam after a biopsy": kind("ORIGINAL\\PRIMARY", "Stereotactic biopsy follow-up"),
    "after a biopsy, processed": kind("DERIVED\\PRIMARY\\\\NONE", "MAMMO DIAG S/P BIOPSY"),
    "the biopsy of the study": kind("ORIGINAL\\PRIMARY", "L CC", StudyDescription="Stereotactic biopsy left"),
    "words that are names of views elsewhere": kind("DERIVED\\PRIMARY", "L CC at 3 o'clock, 40 ml, CV lab"),
    "a word of which another is part": kind("DERIVED\\PRIMARY", "additional CC views, scope 2D"),
    "not for quality control": kind(QualityControlImage="NO", PartialView="NO", PositionerType="MAMMOGRAPHIC"),
    "an implant": kind("DERIVED\\PRIMARY", BreastImplantPresent="YES"),
    "a screening paddle": kind(PaddleDescription="24CM X 30CM"),
    "no magnification": kind(PaddleDescription="Non-mag 24x30", AcquisitionDeviceProcessingDescription="Magnification 1.0"),
    "a description, where the header says that nothing is modified": kind(
        description="DIAGNOSTIC SPOT MAG", ViewModifierCodeSequence=Sequence()
    ),
    "a description of both views, beside modifiers": kind(
        description="L CC and MLO, spot MLO", ViewModifierCodeSequence=Sequence()
    ),
    "a description of another view, beside modifiers": kind(description="L MLO SPOT", ViewModifierCodeSequence=Sequence()),
    "a modifier without a value": kind(ViewModifierCodeSequence=Sequence([factory.item(CodeValue="")])),
    "a code and its meaning": kind(ViewCodeSequence=Sequence([factory.item(CodeValue=CC, CodeMeaning="cranio-caudal")])),
    "distances of a contact view": kind(DistanceSourceToDetector=650, DistanceSourceToPatient=623),
    "one distance": kind(DistanceSourceToDetector=650),
    "factor 0": kind(EstimatedRadiographicMagnificationFactor=0),
    "factor 0, and the distances of a contact view": kind(
        EstimatedRadiographicMagnificationFactor=0, DistanceSourceToDetector=650, DistanceSourceToPatient=623
    ),
    "distance 0": kind(DistanceSourceToDetector=650, DistanceSourceToPatient=0),
    "the factor before the distances": kind(
        DistanceSourceToDetector=660, DistanceSourceToPatient=367, EstimatedRadiographicMagnificationFactor=1
    ),
    "a name that is not text": kind(SpecificCharacterSet="ISO_IR 192", PatientName=b"\xff\xfe"),
    "no contrast": kind("DERIVED\\PRIMARY", ContrastBolusAgent="None"),
    **{
        f"no contrast: {agent}": kind("DERIVED\\PRIMARY", ContrastBolusAgent=agent, SpecificCharacterSet="ISO_IR 192")
        for agent in ("No contrast", "W/O", "0", "ohne KM", "sin contraste", "Без контраста", "aucun", "not given", "NA")
    },
    "corrected by the detector": kind(
        "DERIVED\\PRIMARY",
        DerivationDescription="Flat-field corrected",
        AcquisitionDeviceProcessingDescription="dark subtraction",
    ),
    "no contrast, in a code": kind(
        "DERIVED\\PRIMARY", ContrastBolusAgentSequence=Sequence([factory.item(CodeValue="260413007", CodeMeaning="None")])
    ),
    "a height of every exposure (Siemens)": kind("ORIGINAL\\PRIMARY", TomoLayerHeight="0"),
    **{
        f"a code and its meaning in other words: {meaning}": kind(
            ViewPosition=None, ViewCodeSequence=Sequence([factory.item(CodeValue=MLO, CodeMeaning=meaning)])
        )
        for meaning in ("Oblicua medio-lateral", "MLO (medio-lateral)", "mediolateral-oblique view", "oblique médio-latéral")
    },
    "an exposure in an exam with contrast": kind("ORIGINAL\\PRIMARY", ContrastBolusAgent="IOHEXOL", KVP=31),
    "kVp of a thick breast": kind(KVP=40),
    "kVp in volts": kind(KVP=28000, FilterMaterial="SILVER"),
    "an identifier after the view": kind(description="L CC, ID 12"),
    "an exam with words that begin as synthetic does": kind(
        "DERIVED\\PRIMARY", "Mamografía sintomática, sin 2D, Tomo Synthesis"
    ),
    "an image of an exam with slices, reconstructed": kind("ORIGINAL\\PRIMARY", "2D and tomosynthesis reconstruction"),
    "an image that refers to a tomosynthesis": kind(
        "DERIVED\\PRIMARY", ReferencedImageSequence=Sequence([factory.item(ReferencedSOPClassUID=TOMOSYNTHESIS)])
    ),
    "both sides as a body part": kind(BodyPartExamined="L AND R BREAST"),
    "no contrast, in Japanese": kind("DERIVED\\PRIMARY", ContrastBolusAgent="なし", SpecificCharacterSet="ISO_IR 192"),
    "an exposure that was repeated, not rejected": kind(
        "ORIGINAL\\PRIMARY", "L CC repeat", ImageComments="Repeat, not rejected"
    ),
    "an exposure without a reject": kind("ORIGINAL\\PRIMARY", "L CC", ImageComments="no reject"),
    "a reason that is none": kind("ORIGINAL\\PRIMARY", "L CC", ImageComments="Reject reason: none"),
    "a derivation of every image": kind(
        "DERIVED\\PRIMARY", DerivationCodeSequence=Sequence([factory.item(CodeValue="113040", CodeMeaning="Lossy Compression")])
    ),
    "a whole exposure": kind(ExposureStatus="NORMAL"),
    "a spacing that nothing says to be corrected": kind(ImagerPixelSpacing=[0.07, 0.07], PixelSpacing=[0.04, 0.04]),
    "a spacing that is corrected for contact": kind(
        ImagerPixelSpacing=[0.085, 0.085], PixelSpacing=[0.0815, 0.0815], PixelSpacingCalibrationType="GEOMETRY"
    ),
    "a look-up table": kind("DERIVED\\PRIMARY", AcquisitionDeviceProcessingDescription="MED CONTRAST"),
    **{name: said(name) for name in ("L CC Z.n. Biopsie", "contrôle après biopsie", "生検後 L CC", "после биопсии")},
    **{name: said(name) for name in ("MAM DIAG UNILAT POST BIOPSY", "post-biopsy mammogram", "L CC after benign biopsy")},
    **{name: said(name) for name in ("L CC nach VAB", "Z.n. VABB links", "L CC after VAB", "MAMMO POST VAB CONTROL")},
    "a follow-up in Swedish": said("L CC, förberedelse, uppföljning"),
    **{
        name: said(name)
        for name in (
            "L CC без контраста",
            "左 CC 非造影",
            "breast preparation",
            "sans contraste",
            "ohne Kontrastmittel",
            "L CC, kein Kontrastmittel",
            "keine Kontrastmittelgabe",
            "Kontrastmittelallergie",
        )
    },
    **{name: said(name) for name in NAMES_OF_THE_EXAM},
    "Fujifilm's workstation, an exposure": kind("ORIGINAL\\PRIMARY", ManufacturerModelName="FDR-3000AWS"),
}
SYNTHETIC = {
    "the standard": kind("DERIVED\\PRIMARY\\TOMOSYNTHESIS\\GENERATED_2D"),
    "the standard, value 3 empty": kind("DERIVED\\PRIMARY\\\\GENERATED_2D"),
    "in a biopsy's exam": kind("DERIVED\\PRIMARY\\TOMOSYNTHESIS\\GENERATED_2D", "Tomo biopsy, L CC"),
    "small letters and spaces": kind("derived \\primary\\tomo\\ generated_2d \\\\150000"),
    "its source is a tomosynthesis": kind(
        "DERIVED\\PRIMARY", SourceImageSequence=Sequence([factory.item(ReferencedSOPClassUID=TOMOSYNTHESIS)])
    ),
    "Siemens": kind("DERIVED\\PRIMARY\\TOMO_2D\\LEFT\\\\\\\\\\150000"),
    "Fujifilm's workstation": kind("DERIVED\\PRIMARY\\\\\\\\150000", ManufacturerModelName="FDR-3000AWS"),
} | {
    name: kind("DERIVED\\PRIMARY", name)
    for name in (
        "L CC C-View", "R MLO CView HD", "L_MLO_C_VIEW", "L CC Intelligent 2D", "R CC S-View", "V-Preview LCC", "Insight2D",
        "RCC INSIGHT 2D", "Synthetic 2D", "synthesized view", "Synth2D L MLO", "vue 2D synthétique", "Synthetische 2D",
        "L CC Volume Preview", "sintetica 2D", "G-View", "tomo synth", "L CC CViewHD", "2DSynth RMLO", "Syn2D",
        "2D-synt", "L CC SYNT 2D", "Sint2D", "2D sint.", "L CC SynthesizedView", "synthesized2D", "SynMammo", "vue synthé",
        "2D from Tomosynthesis", "2D from 3D",
    )
} | {name: said(name) for name in ("合成2D L CC", "L CC синтезированное", "L CC synteettinen", "L CC sentetik 2D")}  # fmt: skip
LOW_ENERGY = {
    "GE: value 4": kind("ORIGINAL\\PRIMARY\\\\LOW_ENERGY"),
    "the standard: value 5": kind("ORIGINAL\\PRIMARY\\POST_CONTRAST\\\\LOW_ENERGY"),
    "GE, processed": kind("DERIVED\\PRIMARY\\POST_CONTRAST\\\\low_energy ", AcquisitionDeviceProcessingCode="GEMS_CESM_1"),
    "by description": kind("DERIVED\\PRIMARY", "CESM L CC Low-Energy"),
    "in a biopsy's exam": kind("ORIGINAL\\PRIMARY\\POST_CONTRAST\\\\LOW_ENERGY", "CESM-guided biopsy"),
    "the description of its exam": kind("ORIGINAL\\PRIMARY\\\\LOW_ENERGY", "CESM subtraction"),
    **{name: said(name) for name in ("CESM Niedrigenergie", "CESM basse énergie", "造影 低エネルギー", "низкоэнергетический")},
}
NO_VIEWS_ELSEWHERE = (
    "Präparatradiographie L", "pièce opératoire", "pezzo operatorio", "pieza quirúrgica", "摘出標本", "препарат", "ファントム",
    "Konstanzprüfung", "contrôle de qualité", "L CC 生検", "L CC Drahtmarkierung", "Galaktographie L CC", "L CC soustraction",
    "L CC Subtraktion", "左 CC 减影", "L CC Hochenergie", "L CC avec contraste", "造影 L CC", "Angio-mammographie L CC",
    "Mamma Kontrastmittel L CC", "KM-Mammographie L CC",
)  # fmt: skip
MODIFIED_ELSEWHERE = (
    "L CC Forstørret", "L CC powiększenie", "L CC zvětšení", "L CC büyütme", "L CC Lupenvergrößerung", "L CC 확대",
    "L CC スポット", "L CC ｽﾎﾟｯﾄ", "L CC прицельная", "L CC Zielaufnahme", "L CC spotopname", "L CC compression localisée",
    "L CC compresión focalizada", "L CC compressão seletiva", "L CC compressione mirata", "L CC 局部加压",
    "L CC tangentiell", "profil gauche", "ML links", "Mamma links seitlich", "perfil derecho", "左 ML",
)  # fmt: skip
REFUSED = {
    "high-energy by its filter": kind("ORIGINAL\\PRIMARY", FilterMaterial="COPPER"),
    "high-energy by one of its filters": kind("ORIGINAL\\PRIMARY", FilterMaterial=["ALUMINUM", "COPPER"], KVP=49000),
    "aborted": kind(ExposureStatus="ABORTED"),
    "rejected by Image Type": kind("ORIGINAL\\PRIMARY\\\\REJECTED"),
    "rejected by description": kind("ORIGINAL\\PRIMARY", "L CC REJECTED"),
    "rejected by comment": kind(ImageComments="Rejected: motion"),
    "rejected for what it is not": kind(ImageComments="Rejected, not diagnostic"),
    "rejected, with a number": kind(ImageComments="Reject no. 3"),
    "rejected, in Japanese": said("L CC 写損"),
    "quality control": kind(QualityControlImage="YES"),
    "phantom and patient": kind(QualityControlImage="both"),
    "a phantom by description": kind(description="ACR Phantom"),
    "a phantom as a body part": kind(BodyPartExamined="PHANTOM"),
    "a phantom by the exam": kind(StudyDescription="QC, ACR phantom"),
    "a phantom by protocol": kind(ProtocolName="Quality Control"),
    "a phantom by name": kind(PatientName="ACR^Phantom"),
    "specimen by protocol": kind(ProtocolName="SPECIMEN"),
    "specimen by the exam": kind("ORIGINAL\\PRIMARY", StudyDescription="XR SPECIMEN BREAST LEFT"),
    "specimen by the step": kind("ORIGINAL\\PRIMARY", PerformedProcedureStepDescription="Specimen radiograph"),
    "a phantom by the request": kind(RequestedProcedureDescription="Weekly QC"),
    "a slice by its height": kind("DERIVED\\PRIMARY", TomoLayerHeight=20),
    "a test object": kind("ORIGINAL\\PRIMARY", "TORMAX"),
    "a patient of quality control": kind(PatientName="QC^Daily"),
    "subtracted by its derivation": kind(
        "DERIVED\\PRIMARY",
        DerivationCodeSequence=Sequence([factory.item(CodeValue="113062", CodeMeaning="Pixel by pixel subtraction")]),
    ),
    "contrast by a code of its agent": kind("DERIVED\\PRIMARY", ContrastBolusAgentSequence=factory.coded("44588005")),
    **{name: kind("DERIVED\\PRIMARY", name) for name in ("L CC recomb", "L CC needle", "L CC hookwire", "L CC REJECT")},
    **{
        name: kind("DERIVED\\PRIMARY", name)
        for name in ("L CC I-View", "Dual Energy L CC", "Contrast Mammo", "L CC ThickSlab", "Insight 3D L MLO")
    },
    **{
        name: kind("ORIGINAL\\PRIMARY", name)
        for name in ("Pre-fire", "Post fire L CC", "L VAB", "Mammotome", "PMMA 45mm", "Weekly QA", "Test image", "Dose Report")
    },
    "before the biopsy, in two words": kind("ORIGINAL\\PRIMARY\\PRE FIRE"),
    **{
        name: kind("DERIVED\\SECONDARY", name)
        for name in ("Lunit INSIGHT MMG", "Transpara", "R2 ImageChecker", "L CC CAD marks")
    },
    "a paddle for biopsies": kind(PaddleDescription="Biopsy 5x5"),
    "a paddle for localizations": kind(PaddleDescription="LOCALIZATION"),
    "a map of density": kind("DERIVED\\SECONDARY", "L CC density map"),
    "Hologic's projections": kind("ORIGINAL\\PRIMARY", "L CC Tomosynthesis Projection"),
    "projections, abbreviated": kind("ORIGINAL\\PRIMARY", "L CC Tomo Proj."),
    "Hologic's slices": kind("DERIVED\\PRIMARY", "L CC Tomosynthesis Reconstruction"),
    "Hologic's thick slices": kind("DERIVED\\PRIMARY", "L CC SmartSlices"),
    "high-energy by its kVp": kind("ORIGINAL\\PRIMARY", "CESM L CC", KVP=49),
    "contrast by its agent": kind("DERIVED\\PRIMARY", ContrastBolusAgent="IOHEXOL 350"),
    "contrast by a kind of agent": kind("DERIVED\\PRIMARY", ContrastBolusAgent="Non-ionic, 80 ml"),
    "contrast by an agent that is not known": kind("DERIVED\\PRIMARY", ContrastBolusAgent="UNKNOWN"),
    "the last image of a biopsy": kind("DERIVED\\PRIMARY", "Mammo guided biopsy, post biopsy"),
    "after a biopsy, on which table is not known": kind("DERIVED\\PRIMARY", "L CC post biopsy"),
    "service": kind(ContentQualification="SERVICE"),
    "stereo scout": kind("ORIGINAL\\PRIMARY\\STEREO_SCOUT"),
    "stereo pair": kind("ORIGINAL\\PRIMARY\\STEREO_MINUS"),
    "Siemens stereo": kind("DERIVED\\PRIMARY\\STEREO\\LEFT"),
    "prefire": kind("ORIGINAL\\PRIMARY\\PREFIRE_PLUS"),
    "after the biopsy": kind("ORIGINAL\\PRIMARY\\POSTBIOPSY"),
    "marker": kind("ORIGINAL\\PRIMARY\\POSTMARKER_MINUS"),
    "tomo-guided": kind("DERIVED\\PRIMARY\\POSTFIRE\\GENERATED_2D"),
    "biopsy by description": kind("DERIVED\\PRIMARY", "cilinderbiopsie"),
    "stereotaxis by description": kind(description="Stereotactic L"),
    "biopsy by description, beside values that name no kind": kind("ORIGINAL\\PRIMARY\\LEFT\\NONE", "Biopsy L"),
    "a phantom, whatever its Image Type": kind("DERIVED\\PRIMARY\\TOMOSYNTHESIS\\GENERATED_2D", "Phantom"),
    "a specimen, whatever its Image Type": kind("ORIGINAL\\PRIMARY\\\\LOW_ENERGY", "Specimen, follow-up"),
    "stereo positioner": kind(PositionerType="UPRIGHT STEREO"),
    "specimen by description": kind("ORIGINAL\\PRIMARY", "Specimen L"),
    "ductogram, in Chinese": kind("ORIGINAL\\PRIMARY", "L CC 导管造影", SpecificCharacterSet="ISO_IR 192"),
    "specimen in a container": kind(ContainerIdentifier="1"),
    "specimen as a body part": kind(BodyPartExamined="BREAST SPECIMEN"),
    "specimen by a long code": kind(ViewModifierCodeSequence=Sequence([factory.item(LongCodeValue="127457009")])),
    "ductogram": kind("ORIGINAL\\PRIMARY", "Ductogram L CC"),
    "screen capture": kind("DERIVED\\SECONDARY\\SCREEN SAVE"),
    "scout": kind("ORIGINAL\\PRIMARY\\\\SCOUT"),
    "volume": kind("DERIVED\\PRIMARY\\VOLUME\\NONE"),
    "slab by description": kind("DERIVED\\PRIMARY", "Breast Tomosynthesis Slab"),
    "specimen as a modifier": kind(ViewModifierCodeSequence=factory.coded("127457009")),
    "recombined": kind("DERIVED\\PRIMARY\\\\RECOMBINED"),
    "recombined, called original": kind("ORIGINAL\\PRIMARY\\\\Recombined"),
    "subtracted": kind("DERIVED\\PRIMARY\\POST_CONTRAST\\SUBTRACTION\\\\\\\\50000"),
    "subtracted low-energy": kind("DERIVED\\PRIMARY\\POST_CONTRAST\\SUBTRACTION\\LOW_ENERGY"),
    "added": kind("DERIVED\\PRIMARY\\POST_CONTRAST\\ADDITION"),
    "high-energy": kind("ORIGINAL\\PRIMARY\\POST_CONTRAST\\\\HIGH_ENERGY"),
    "contrast of unknown energy": kind("DERIVED\\PRIMARY\\POST_CONTRAST"),
    "GE's processing": kind("ORIGINAL\\PRIMARY\\", AcquisitionDeviceProcessingCode="GEMS_CESM_1"),
    "recombined by description": kind("DERIVED\\PRIMARY", "L CC recombined"),
    "subtracted by description": kind(description="L MLO Subtracted"),
    "CESM by description": kind("DERIVED\\PRIMARY", "CESM L CC"),
    "projection": kind("DERIVED\\PRIMARY\\TOMO_PROJ\\RIGHT\\\\\\\\\\150000"),
    "slice": kind("DERIVED\\PRIMARY\\TOMOSYNTHESIS\\NONE"),
    "contrast by its agent, in Japanese": kind(
        "DERIVED\\PRIMARY", ContrastBolusAgent="イオパミドール", SpecificCharacterSet="ISO_IR 192"
    ),
    "a phantom by name, in Russian": kind(PatientName="Фантом", SpecificCharacterSet="ISO_IR 192"),
    **{name: said(name) for name in NO_VIEWS_ELSEWHERE},
    "computed and original": kind("ORIGINAL\\PRIMARY\\TOMOSYNTHESIS\\GENERATED_2D"),
}
MODIFIED = {
    "partial": kind(PartialView="YES"),
    "partial, by its code": kind(PartialViewCodeSequence=factory.coded("255561001")),
    "magnified by its distances": kind(DistanceSourceToDetector=660, DistanceSourceToPatient=367),
    "a factor that is empty": kind(
        EstimatedRadiographicMagnificationFactor="", DistanceSourceToDetector=660, DistanceSourceToPatient=367
    ),
    "magnified by its spacing": kind(
        ImagerPixelSpacing=[0.07, 0.07], PixelSpacing=[0.039, 0.039], PixelSpacingCalibrationType="GEOMETRY"
    ),
    **{
        name: kind(description=name)
        for name in (
            *("LXCCL", "RXCC", "L CC exaggerated", "LT 90 lateral", "L axilla", "LT ML", "ML left"),
            *("L LAT", "True lateral", "Cleo", "L M CC", "R S-MLO", "L CC Vergr."),
        )
    },
    "factor 0, and magnified by its distances": kind(
        EstimatedRadiographicMagnificationFactor=0, DistanceSourceToDetector=660, DistanceSourceToPatient=367
    ),
    "spot by Image Type": kind("ORIGINAL\\PRIMARY\\\\SPOT_COMPRESSION", ViewModifierCodeSequence=Sequence()),
    "rolled by description": kind(description="L CC rolled lateral"),
    "lateral by description": kind(description="L ML"),
    "oblique from below by description": kind(description="LLMO"),
    "of the cleavage by protocol": kind(ProtocolName="Left CV"),
    "from below by description": kind(description="L FB, additional"),
    "exaggerated by description": kind(description="L XCCL"),
    "enlarged in another language": kind(description="L CC Vergrößerung"),
    "spot by protocol": kind(ProtocolName="L CC SPOT MAG"),
    "a spot view with a number": kind(ProtocolName="L CC SPOT NO 2"),
    "rolled by protocol": kind(ProtocolName="L CC rolled medial"),
    "enlarged in Dutch": kind(description="L CC vergroting"),
    "enlarged in Portuguese": kind(description="L CC ampliação"),
    "enlarged in Swedish": kind(description="L CC förstoring"),
    **{f"{name}, as the ACR abbreviates": kind(description=name) for name in ("L MCC", "LSCC", "LCCRL", "L CC TAN", "LCCRM")},
    "enlarged in Chinese": said("左CC放大", "GB18030"),
    "enlarged in Russian": said("L CC увеличение", "ISO_IR 144"),
    "enlarged in Japanese": said("L CC 拡大", "\\ISO 2022 IR 87"),
    **{name: said(name) for name in MODIFIED_ELSEWHERE},
    "magnified, in one word": kind(description="LCCMAG"),
    "spot and magnified, in one word": kind(description="L CC spotmag"),
    "spot by the protocol of the exposure": kind(AcquisitionProtocolName="L CC SPOT"),
    "magnified by the device's processing": kind(
        AcquisitionDeviceProcessingDescription="MAG", ViewModifierCodeSequence=Sequence()
    ),
    "spot paddle": kind(PaddleDescription="SPOT CONTACT", ViewModifierCodeSequence=Sequence()),
    **{
        f"{name}, beside an empty list of modifiers": kind(description=name, ViewModifierCodeSequence=Sequence())
        for name in ("L CC SPOT", "LCCMAG", "RSCC", "Left CC rolled", "CC LEFT SPOT COMPRESSION")
    },
    **{name: kind(description=name) for name in ("L CC 1.8x", "L CC x1,5", "L CC ROLL LAT", "L CC lat. exag.")},
    "magnification paddle": kind(PaddleDescription="10CM MAG"),
    "magnified 1.5 times": kind(AcquisitionDeviceProcessingDescription="Magnification 1.5"),
    "spot by description": kind(description="L CC spot compression"),
    "magnified by description": kind(description="L CC Magnified"),
}


@pytest.mark.parametrize("name", FULL_FIELD)
def test_full_field(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, **FULL_FIELD[name])
    assert isinstance(found, ImageRecord), found
    assert (found.synthetic, found.low_energy) == (False, False)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, **SYNTHETIC[name])
    assert isinstance(found, ImageRecord), found
    assert (found.synthetic, found.low_energy) == (True, False)


@pytest.mark.parametrize("name", LOW_ENERGY)
def test_low_energy(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, **LOW_ENERGY[name])
    assert isinstance(found, ImageRecord), found
    assert (found.synthetic, found.low_energy) == (False, True)


def test_texts_whose_character_set_is_not_declared() -> None:
    assert english("L CC 拡大".encode().decode("latin-1")) == "L CC MAGNIFIED"
    assert english("L CC \33$B3HBg\33(B") == "L CC MAGNIFIED"
    assert english("L CC Vergrößerung") == english("L CC Vergrößerung".encode().decode("latin-1")) == "L CC MAGNIFIED"


@pytest.mark.parametrize(
    ("said", "characters"),
    [
        ("左CC放大", "gb18030"), ("L CC 放大", "big5"), ("L CC 拡大", "shift_jis"), ("L CC 拡大", "euc_jp"),
        ("L CC 확대", "euc_kr"),
        ("L CC увеличение", "cp1251"), ("L CC увеличение", "koi8_r"), ("L CC увеличение", "iso8859_5"),
        ("L CC μεγέθυνση", "cp1253"),
    ],
)  # fmt: skip
def test_terms_are_told_by_their_bytes(said: str, characters: str) -> None:
    assert "MAGNIFIED" in english(said.encode(characters).decode("latin-1")).split()


@pytest.mark.parametrize("said", ["mammographie bilatérale, côté droit", "Mamografía oblicua", "Übersicht MLO ÄÖÜ", "ŁÓDŹ CC"])
def test_letters_with_accents_are_no_other_script(said: str) -> None:
    assert english(said).isascii()
    assert english(said.encode("cp1250", "replace").decode("latin-1")).isascii()


DISPLACED = {
    "by description": kind(description="L CC Implant Displaced"),
    "as the ACR abbreviates": kind(description="LCCID"),
    "as the ACR abbreviates, apart": kind(description="L CC ID"),
    "by an abbreviation": kind(description="L CC Implant Disp"),
    "by an abbreviation of two joined words": kind(description="L CC ImpDisp"),
    "pushed back": kind(ProtocolName="L CC push-back"),
    "by Eklund's name": kind(ProtocolName="LCC Eklund"),
    "by Image Type": kind("ORIGINAL\\PRIMARY\\\\EKLUND", ViewModifierCodeSequence=Sequence()),
}


@pytest.mark.parametrize("name", DISPLACED)
def test_implant_displaced_by_words(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, **DISPLACED[name])
    assert isinstance(found, ImageRecord), found
    assert found.implant_displaced
    plain = read(tmp_path, **kind(description="L CC implant, not displaced", PatientID="ID"))
    assert isinstance(plain, ImageRecord), plain
    assert not plain.implant_displaced


@pytest.mark.parametrize("name", REFUSED | MODIFIED)
def test_no_standard_view(tmp_path: Path, name: str) -> None:
    """Rejected by name; nothing of a free text is shown."""
    found = read(tmp_path, **(REFUSED | MODIFIED)[name])
    assert isinstance(found, Rejection), found
    assert found.reason is (Reason.IMAGE_KIND_REFUSED if name in REFUSED else Reason.VIEW_MODIFIED)
    description = (REFUSED | MODIFIED)[name]["SeriesDescription"]
    assert description is None or description not in found.detail


@pytest.mark.parametrize(("title", "rejecting"), [("113001", True), ("113037", True), ("113000", False)])
@pytest.mark.parametrize("key", [b"", b"k" * 32], ids=["kept", "hashed"])
def test_a_note_that_rejects_images(tmp_path: Path, title: str, rejecting: bool, key: bytes) -> None:
    """The images that it lists are left out, and one of a note about images "of interest" is not."""
    for number, view in enumerate((*View, View.CC), 1):
        write_image(
            tmp_path / f"{number}.dcm", number, factory.LEFT, view, PatientID="P", ImageLaterality="L", ViewPosition=view
        )
    factory.write(tmp_path / "note.dcm", factory.file_bytes(factory.rejection_note("2.25.1", title), None))
    source = replace(
        make_source("set", tmp_path, DataSet(adapter="table", identifiers="own"), None, Path()), identifier_key=key
    )
    with FileCache(tmp_path / ".cache", tmp_path, source.policy) as cache, Workers(WorkerSettings(count=0)) as workers:
        found = index(source, workers, cache)
    reasons = {each.what: each.reason for each in found.rejections}
    assert reasons["note.dcm"] is (Reason.REJECTION_NOTE if rejecting else Reason.SOP_CLASS_REFUSED)
    ((cc, mlo),) = [[image.path for image in breast.images] for breast in found.breasts]
    assert (cc, mlo) == ("3.dcm" if rejecting else "1.dcm", "2.dcm")
    assert reasons["1.dcm" if rejecting else "3.dcm"] is (Reason.IMAGE_KIND_REFUSED if rejecting else Reason.SUPERSEDED)
