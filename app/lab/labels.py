"""Lists the classes of Choi & Wang 2021, §4.1, by Music4All's support (the default of a training), and languages of songs.

Serving never reads these: a release carries its own labels. The tenth class is Swedish: the paper prints "Slovakian",
the code of its data set is `sv`.
"""

from app.families.contract import Label

# Languages that songs are heard and named in, by ISO 639-1 code. Decided once, after ISO 639 and MusicBrainz: `zh` is
# Chinese with Cantonese (zho), `no` Norwegian in both written forms (nor), `sh` Serbo-Croatian (hbs: Serbian, Croatian,
# Bosnian), `ms` Malay (msa) beside Indonesian (ind), `tl` Tagalog with Filipino.
WORLD_LANGUAGES = """
en eng English; es spa Spanish; pt por Portuguese; fr fra French; de deu German; it ita Italian; nl nld Dutch;
sv swe Swedish; da dan Danish; no nor Norwegian; fi fin Finnish; is isl Icelandic; pl pol Polish; cs ces Czech;
sk slk Slovak; uk ukr Ukrainian; ru rus Russian; be bel Belarusian; bg bul Bulgarian; sl slv Slovenian;
sh hbs Serbo-Croatian; mk mkd Macedonian; sq sqi Albanian; ro ron Romanian; hu hun Hungarian; el ell Greek;
tr tur Turkish; ar ara Arabic; he heb Hebrew; fa fas Persian; ur urd Urdu; hi hin Hindi; bn ben Bengali;
pa pan Punjabi; gu guj Gujarati; mr mar Marathi; ne nep Nepali; ta tam Tamil; te tel Telugu; ml mal Malayalam;
kn kan Kannada; si sin Sinhala; th tha Thai; vi vie Vietnamese; id ind Indonesian; ms msa Malay; tl tgl Tagalog;
km khm Khmer; ja jpn Japanese; ko kor Korean; zh zho Chinese; et est Estonian; lt lit Lithuanian; lv lav Latvian;
ka kat Georgian; hy hye Armenian; az aze Azerbaijani; kk kaz Kazakh; ca cat Catalan; gl glg Galician; eu eus Basque;
cy cym Welsh; af afr Afrikaans; sw swa Swahili
"""
_SINGLE = [Label(code=code, iso639_3=iso, name=name) for code, iso, name in map(str.split, WORLD_LANGUAGES.split(";"))]
WORLD_LABELS: tuple[Label, ...] = (*_SINGLE, Label(code="others", iso639_3=None, name="Other languages"))
_BY_CODE = {label.code: label for label in (*_SINGLE, Label(code="others", iso639_3="mis", name="Other languages"))}
PAPER_CODES = ("en", "pt", "es", "ko", "others", "fr", "ja", "de", "pl", "it", "sv")
PAPER_LABELS = tuple(_BY_CODE[code] for code in PAPER_CODES)
WORLD_ALIASES = {"yue": "zh", "hr": "sh", "sr": "sh", "bs": "sh", "nb": "no", "nn": "no", "fil": "tl"}  # counted as
