"""The eleven classes of Choi & Wang 2021, §4.1, in the order of Music4All's support: the default of a new training.

Serving never reads these: a release carries its own labels. The tenth class is Swedish: the paper prints "Slovakian",
the code of its data set is `sv`.
"""

from __future__ import annotations

from app.families.contract import Label

PAPER_LABELS: tuple[Label, ...] = (
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="pt", iso639_3="por", name="Portuguese"),
    Label(code="es", iso639_3="spa", name="Spanish"),
    Label(code="ko", iso639_3="kor", name="Korean"),
    Label(code="others", iso639_3="mis", name="Other languages"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="ja", iso639_3="jpn", name="Japanese"),
    Label(code="de", iso639_3="deu", name="German"),
    Label(code="pl", iso639_3="pol", name="Polish"),
    Label(code="it", iso639_3="ita", name="Italian"),
    Label(code="sv", iso639_3="swe", name="Swedish"),
)
