"""What a column's name says about ids, in a dozen languages; and the customer of a table whose rows are numbered.

A name alone decides nothing: an id also has another value in every row. See `drafting.key` for that.
"""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum
from itertools import pairwise

# The customer, as the first half of a name such as customer_id, Kundennummer or 客户编号.
_CUSTOMER = (
    r"customers?|cust|clients?|users?|subscribers?|members?|consumers?|kunden?|mitglieds?|nutzer|klant|klient[ae]?|kund"
    r"|asiakas|cliente|usu[aá]rio|socio|utente|abonn[ée]e?|utilisateur|adh[ée]rent|assinante|m[uü][sş]teri"
    r"|клиента?|абонента?|пользовател[яь]|客户|客戶|顧客|用户|用戶|会员|會員|会員|契約者|고객|회원"
)
_PERSON = (
    r"accounts?|accts?|acc|employees?|emp|staff|persons?|patients?|students?|guests?|players?|holders?|policy_?holders?"
    r"|party|donors?|contacts?|households?|konto|personal|mitarbeiter|empleado|empregado|conta|cuenta|compte|счета|счёта"
    r"|员工|学生|患者|社員|계정"
)
_ID = r"ids?|uuid|guid|identi(?:fier|fiant|ficador|ficativo)|kennung|tunnus|hash|ид|идентификатор|アイディー|아이디"
_NUMBER = r"no|nr|nro|num|number|nummer|num[ée]ro|n[uú]mero|numer|numaras[i\u0131]|номер|код|kod"
_NUMBER += r"|编号|編號|编码|号码|号|番号|コード|번호"
_BEFORE = r"ids?|c[oó]digo|code|num[ée]ro|numero|número|n[°º]|ид|код|номер"  # id_cliente, номер_клиента
_OF = r"(?:_(?:de|do|da|du|del|della|d|l|of))*"
_CONTACT = r"(?:tele)?(?:phone|fon|fono)(?:_?(?:number|no|nr|nummer|num))?|mobile(?:_?(?:number|no))?|msisdn|imsi|iccid"
_CONTACT += (
    r"|e_?mail(?:_?address)?|iban|ssn|cpf|cnpj|dni|user_?name|login|телефон|手机号码?|电话号码?|電話番号|전화번호"
)
_ROW = (
    r"(?:row|line|record|obs|index|zeilen?|ligne|fila|linha|строк[аи]|行)_?(?:num|number|no|nr|nummer|id|index|号|番号)"
)
_ROW += (
    r"|index|idx|rowid|unnamed(?:_?\d+)?|s(?:l|r)?_no|serial_(?:no|number)|lfd_?nr|level_0|index_level_\d+|序号|no|nr|n"
)


def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|.*_)(?:{pattern})(?:_.*)?", re.S)


def _last(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:.*_)?(?:{pattern})", re.S)


def _of(whom: str) -> str:
    return rf"(?:{whom})_?の?(?:{_ID}|{_NUMBER})|(?:{_BEFORE}){_OF}_?(?:{whom})"


_SUBJECT = re.compile(rf"(?:.*_)?(?:{_of(_CUSTOMER)})(?:_(?:hash|key|{_ID}|{_NUMBER}))?", re.S)
_ROW_NAME = re.compile(_ROW)
_NAMES = (
    (_last(_of(_PERSON)), 1),
    (re.compile(rf"(?:{_ID}|[a-z]id|cif|key)"), 2),
    (_whole(_ID), 3),
    (_last(rf"[a-z]id|(?:{_BEFORE})_.+|.+_key"), 3),
    (_last(_CONTACT), 5),
    (_last(rf"{_NUMBER}|.+(?:nummer|number|编号|編號|番号|번호|номер)"), 4),
    (re.compile(rf"(?:{_CUSTOMER}|{_PERSON})"), 6),
)


class IdName(IntEnum):
    """How well a name fits the customer's id, best first."""

    CUSTOMER = 0  # customer_id, Kundennummer, IDCliente
    PERSON = 1  # account_no, EmployeeNumber
    ID = 2  # id, uuid, CID
    OTHER = 3  # booking_id
    NUMBER = 4  # policy_number
    CONTACT = 5  # phone, email
    PERSON_ALONE = 6  # client


def split_name(name: str) -> str:
    """A column's name with its parts separated by `_`, in characters of normal width.

    >>> split_name("CustomerID"), split_name("IDCliente"), split_name("Zip Code ")
    ('Customer_ID', 'ID_Cliente', 'Zip_Code')
    """
    name = unicodedata.normalize("NFKC", name)
    parts = [name[:1]]
    for (before, here), after in zip(pairwise(name), [*name[2:], ""], strict=False):
        starts = here.isupper() and (before.islower() or before.isdigit() or (before.isupper() and after.islower()))
        parts.append(f"_{here}" if starts else here)
    return re.sub(r"[\s_\-./:()\[\]]+", "_", "".join(parts)).strip("_")


def id_name(name: str) -> IdName | None:
    """The kind of id that a column's name is; None if it is the name of no id, or of a row's number.

    >>> id_name("客户编号"), id_name("RowNumber"), id_name("monthly_charges")
    (<IdName.CUSTOMER: 0>, None, None)
    """
    plain = _lower(name)
    if _ROW_NAME.fullmatch(plain):
        return None
    if _SUBJECT.fullmatch(plain):
        return IdName.CUSTOMER
    return next((IdName(rank) for pattern, rank in _NAMES if pattern.fullmatch(plain)), None)


def is_row_number(name: str) -> bool:
    """Whether a column's name says that it numbers the rows."""
    return _ROW_NAME.fullmatch(_lower(name)) is not None


def _lower(name: str) -> str:
    return split_name(name).lower().replace("\u0307", "")  # the dot that Python leaves of the capital in Turkish
