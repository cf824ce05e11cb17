"""Words of other languages that name kinds of images and views, as the English words that the rules look for.

A description in the language of a clinic may be all that tells a magnified view from a standard one. Words with another
meaning, in any of the languages, are not here.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import lru_cache

from fvpipe.dicom.elements import MAX_KNOWN_TEXTS, words

# Those that have no accent to be taken off; the last is the dotless i
_LETTERS = str.maketrans({"ø": "o", "œ": "oe", "æ": "ae", "ł": "l", "đ": "d", "\u0131": "i"})
_LATIN = {
    # Which names no biopsy of this exam
    "FOLLOW UP": r"(NACH|Z ?N|APRES|DOPO|TRAS|APOS|EFTER) (DER |LA |A )?(\w*BIOPS\w*|VABB?)",
    "MAGNIFIED": r"\w*VERGRO\w*|VERGR|LUPEN ?(AUFN|BILD)\w*|AGRANDI\w*|INGRANDI\w*|AMPLIA\w*|FORSTOR\w*|SUURENN\w*|POWIEKSZ\w*"
    r"|ZVETSEN\w*|ZVACSEN\w*|NAGYIT\w*|BUYUT\w*|UVECAN\w*|POVECAV\w*",
    "SPOT": r"(SPOT|ZIEL|DETAIL|AUSSCHNITTS?|DOEL) ?(AUFN|OPN|BILD|[CK]OMPRES|KUVA)\w*|CELOWAN\w*|CILEN\w*|CELZOTT\w*|CILJAN\w*"
    r"|CLICHES? (CENTR|CIBL|LOCALIS)EE?S?|(PROIEZIONE|VISIONE) MIRATA|COMPRES\w* ([FL]OCAL|CENTRE|CIBLE|SELE[CT]+IV|MIRAT)\w*",
    "LEFT": r"LINKS|LINKE\w?|GAUCHE|IZQ(UIERD[AO])?|SINISTR[AO]|ESQUERD[AO]|VENSTRE|VANSTER|LEWA|LEVA|LEVY|SOL",
    "RIGHT": r"RECHTS|RECHTE\w?|DROITE?|DERECH[AO]|DESTR[AO]|DIREIT[AO]|HOYRE|HOJRE|HOGER|PRAWA|PRAVA|PRAVY|SAG",
    "LATERAL": r"PROFIL|PROFILO|PERFIL|SEITLICH\w*|LATERALE\w?|LATERAALI?",
    "ROLLED": r"GEROLLT\w*|ROULEE?S?",
    "TANGENTIAL": r"TANGEN[TZC]I\w*",
    "SPECIMEN": r"PRAPARAT\w*|PREPARA?AT\w{0,2}|PIECES? (OPERATOIRE|D EXERESE)S?|PEZZ[OI] OPERATORI\w?"
    r"|(PIEZA|PECA)S? (QUIRURGICA|CIRURGICA|OPERATORIA)S?",
    "REJECTED": r"VERWORFEN\w*|REJETEE?S?|RECHAZAD[OA]|REJEITAD[OA]|SCARTAT[OA]|AFGEKEURD|KASSERAD|KASSERET|ODRZUCON\w*",
    "QUALITY CONTROL": r"(QUALITATS|KWALITEITS) ?[CK]ONTROL\w*|KONSTANZPRUF\w*|PRUFKORPER\w*|CONTROL DE CALIDAD"
    r"|CONTROLE (DE )?(LA )?QUALI(TE|DADE)|CONTROLLO (DI )?QUALITA",
    "GALACTOGRAPHY": r"(GALA|DU)KTOGRA\w*",
    "LOCALIZATION": r"DRAHT ?(MARK|LOK)\w*|HARPON|ARPON|ARPAO|REPERAGE",
    "SYNTHETIC": r"SYNTEETTI\w*|SENTETIK\w*|SYNTETYCZN\w*",
    "SUBTRACTED": r"SUBTRA[KC]\w*|SOUSTRA\w*|SOTTRA\w*|SUSTRA\w*",
    "RECOMBINED": r"REKOMBIN\w*|RICOMBIN\w*",
    "LOW ENERGY": r"(NIEDRIG|NIEDER|BASSE|BAJA|BASSA|BAIXA|LAGE|LAG|LAV) ?ENERG\w*",
    "HIGH ENERGY": r"(HOCH|HAUTE|ALTA|HOGE|HOG|HOJ|HOY) ?ENERG\w*",
    "CONTRAST ENHANCED": r"(WITH|AVEC|CON|COM|MIT|MET) [CK]ONTRAST\w*|MED KONTRAST\w*|ANGIO ?MAMMOGRA\w*"
    r"|(?<!OHNE )(?<!KEIN )(?<!KEINE )(KONTRASTMITTEL(?!\w*ALLERG)\w*|KM MAMMO\w*)|(POST|NACH) KM",
}
_OTHER_SCRIPTS = {
    "FOLLOW UP": "生検後|活检后|活檢後|생검 ?후|после биопс|після біопс",
    "GALACTOGRAPHY": "乳管造影|导管造影|導管造影|유관조영|дуктограф|галактограф",
    "MAGNIFIED": "拡大|放大|확대|увелич|збільш|μεγεθυν",
    "SPOT": "スポット|点压|點壓|局部加压|局部加壓|국소압박|스팟|прицел|приціл",
    "LEFT": "左|좌측|лев",
    "RIGHT": "右|우측|прав",
    "SPECIMEN": "標本|标本|검체|препарат",
    "REJECTED": "写損|写损|废片|廢片",
    "PHANTOM": "ファントム|体模|模体|팬텀|фантом",
    "BIOPSY": "生検|活检|活檢|생검|биопс|біопс|βιοψ",
    "SYNTHETIC": "合成|합성|синтез|синтет|συνθετ",
    "SUBTRACTED": "減算|减影|減影|剪影|субтракц",
    "LOW ENERGY": "低エネルギ|低能|низкоэнерг",
    "HIGH ENERGY": "高エネルギ|高能|высокоэнерг",
    # 乳房造影 and 유방조영술 are names of any mammography.
    "CONTRAST ENHANCED": r"(?<![^\x00-\x7f])造影(?!なし)|造影(剤|劑|剂|あり|マンモ|增强|增強)|对比增强|對比增強"
    r"|조영 ?(제|증강)|(?<!\w)(?<!без )контраст",
}


def _plain(value: str) -> str:
    apart = unicodedata.normalize("NFKD", value.casefold().translate(_LETTERS))
    return "".join(c for c in apart if not unicodedata.combining(c))


_PATTERNS = [(term, re.compile(_plain(pattern))) for term, pattern in _OTHER_SCRIPTS.items()]
_WORDS = [(term, re.compile(rf"\b({pattern})\b")) for term, pattern in _LATIN.items()]


_ESCAPE = "\33"  # of the character sets of ISO 2022
_UNDECLARED = ("gb18030", "big5", "shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "cp1251", "koi8_r", "iso8859_5", "cp1253")
_TELLING = [pattern for term, pattern in _PATTERNS if term not in ("LEFT", "RIGHT")]  # those are too short


def _declared(value: str) -> str:
    """A text whose character set is not declared: one that gives a known term is that of its bytes."""
    if value.isascii() and _ESCAPE not in value:
        return value
    with suppress(UnicodeError):  # UTF-8 under a character set of one byte; nothing else looks like it
        read = value.encode("latin-1").decode("utf-8")
        if _ESCAPE not in read:
            return read
    for name in _UNDECLARED:
        with suppress(UnicodeError):
            read = value.encode("latin-1").decode(name)
            if any(pattern.search(_plain(read)) for pattern in _TELLING):
                return read
    return value


@lru_cache(MAX_KNOWN_TEXTS)
def english(value: str) -> str:
    """Return the words of a text, as :func:`fvpipe.dicom.elements.words` does, with terms of other languages in English.

    Examples
    --------
    >>> english("L CC Vergrößerung"), english("R-MLO 拡大"), english("L CC Forstørret")
    ('L CC MAGNIFIED', 'R MLO MAGNIFIED', 'L CC MAGNIFIED')
    """
    found = _plain(_declared(value))
    if not found.isascii():
        for term, pattern in _PATTERNS:
            found = pattern.sub(f" {term} ", found)
    found = words(found)
    for term, pattern in _WORDS:
        found = pattern.sub(term, found)
    return found
