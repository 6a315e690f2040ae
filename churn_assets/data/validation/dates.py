"""The day that a text means under a format of the contract: strptime's, with names of months in several languages, or
a number counted from a day."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

from churn_assets.contract.values import DAY_NUMBERS, QUARTER, iso_day, utc_day, without_accents

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EXCEL_ZERO = dt.datetime(1899, 12, 30)  # in the 1900 system, for days after February 1900
_LENGTHS = {
    "%Y%m%d": 8,
    "%d%m%Y": 8,
    "%m%d%Y": 8,
    "%Y%m": 6,
}  # strptime reads 20201 as the year 2020, month 1, or as another day

# English, German, French, Spanish, Portuguese, Italian, Dutch, Russian (nominative, genitive, short); full names first.
_MONTHS = (
    "january januar janvier enero janeiro gennaio januari январь января | jan jän janv ene gen янв",
    "february februar février febrero fevereiro febbraio februari февраль февраля | feb févr fév fev febr фев февр",
    "march märz mars marzo março maart март марта | mar mär mrz mrt мар",
    "april avril abril aprile апрель апреля | apr avr abr апр",
    "may mai mayo maio maggio mei май мая | mag",
    "june juni juin junio junho giugno июнь июня | jun giu июн",
    "july juli juillet julio julho luglio июль июля | jul juil lug июл",
    "august août agosto augustus август августа | aug aoû ago авг",
    "september septembre septiembre setembro settembre сентябрь сентября | sep sept set sett сен сент",
    "october oktober octobre octubre outubro ottobre октябрь октября | oct okt out ott окт",
    "november novembre noviembre novembro ноябрь ноября | nov ноя нояб",
    "december dezember décembre diciembre dezembro dicembre декабрь декабря | dec dez déc dic дек",
)
# Polish, Turkish, Scandinavian, Czech.
_MORE_MONTHS = (
    "styczeń stycznia ocak leden ledna | sty oca",
    "luty lutego şubat únor února | lut şub",
    "marzec marca mart mars marts březen března | bře",
    "kwiecień kwietnia nisan duben dubna | kwi nis",
    "maj maja mayıs květen května",  # noqa: RUF001  # Turkish
    "czerwiec czerwca haziran červen června | cze haz",
    "lipiec lipca temmuz červenec července | lip tem",
    "sierpień sierpnia ağustos augusti srpen srpna | sie ağu",
    "wrzesień września eylül září | wrz eyl",
    "październik października ekim říjen října | paź eki",
    "listopad listopada kasım listopadu | lis kas",  # noqa: RUF001  # Turkish
    "grudzień grudnia aralık prosinec prosince | gru ara",  # noqa: RUF001  # Turkish
)
_ENGLISH = [dt.date(2000, month, 1) for month in range(1, 13)]
_SKIPPED = (
    "de del of r г года utc gmt",  # noqa: RUF001  # Russian
    "mon tue wed thu fri sat sun monday tuesday wednesday thursday friday saturday sunday",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miercoles jueves viernes sabado domingo",
    "lunedi martedi mercoledi giovedi venerdi sabato domenica",
    "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
)
_BESIDE = {word for line in _SKIPPED for word in line.split()}
_QUARTER = re.compile(r"Q([1-4])[ /-]?(\d{4})|(\d{4})[ /-]?Q([1-4])", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+\.?")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th|er|º|\.(?=\s*[^\W\d_]))")


def read_day(text: str, formats: tuple[str, ...]) -> dt.date | None:
    """The day of an ISO 8601 text, or of one in the first of `formats` that reads it; None for another text."""
    stripped = text.strip()
    # Python reads 20120928 and 2012-W39 as dates, too; in a table these are not dates.
    if len(stripped) >= 10 and stripped[4] == "-" and stripped[5] != "W":
        day = iso_day(stripped)
        if day is not None:
            return day
    return next((day for day in (_read(stripped, format_) for format_ in formats) if day is not None), None)


def _read(text: str, format_: str) -> dt.date | None:
    try:
        if format_ == QUARTER:
            return _first_of_quarter(text)
        if format_ in DAY_NUMBERS:
            return _counted(float(text), format_) if "_" not in text else None
        if len(text) != _LENGTHS.get(format_, len(text)):
            return None
        plain = in_english(text) if "%b" in format_ or "%B" in format_ else text
        return utc_day(dt.datetime.strptime(plain, format_))
    except (ValueError, OverflowError):
        return None


def _first_of_quarter(text: str) -> dt.date | None:
    match = _QUARTER.fullmatch(text)
    if match is None:
        return None
    before, year, year_before, after = match.groups()
    return dt.date(int(year or year_before), 3 * int(before or after) - 2, 1)


def _counted(number: float, format_: str) -> dt.date:
    """The day of a number of `DAY_NUMBERS`. Raises ValueError and OverflowError for one beyond Python's dates."""
    if format_ == "excel_serial":
        return (_EXCEL_ZERO + dt.timedelta(days=number)).date()
    return (_EPOCH + dt.timedelta(seconds=number / DAY_NUMBERS[format_])).date()


@lru_cache(maxsize=4096)
def in_english(text: str) -> str:
    """`text` with the English names of its months, and without ordinals, weekdays and words between the parts.

    >>> in_english("12 de marzo de 2024"), in_english("1er févr. 2024"), in_english("12. März 2024")
    ('12 March 2024', '1 Feb 2024', '12 March 2024')
    """
    return " ".join(_WORD.sub(_english_word, _ORDINAL.sub(" ", text)).replace(" ,", ",").split()).lstrip(", ")


def _english_word(match: re.Match[str]) -> str:
    word = without_accents(match[0].removesuffix("."))
    return "" if word in _BESIDE else _ENGLISH_NAMES.get(word, match[0])


_ENGLISH_NAMES = {
    without_accents(name): day.strftime(format_)
    for months in (_MONTHS, _MORE_MONTHS)
    for day, names in zip(_ENGLISH, months, strict=True)
    for part, format_ in zip(names.split("|"), ("%B", "%b"), strict=False)
    for name in part.split()
}
