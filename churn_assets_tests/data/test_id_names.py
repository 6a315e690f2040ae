"""Names of ids, in any position and a dozen languages, and names that only look like one."""

import pytest

from churn_assets.data.id_names import IdName, id_name, is_row_number, split_name

NAMES = {
    IdName.CUSTOMER: (
        "customer_id customerID CustomerId Customer-ID CustID cust_no CLIENTNUM client_no MemberNo user_id "
        "customer_uuid IDCliente id_cliente numero_cliente Código_Cliente code_client kunde_nr Kundennummer "
        "klantnummer müşteri_no Müşteri_numarası MÜŞTERİ_NO "  # noqa: RUF001  # Turkish
        "客户编号 用户ID 会員番号 顧客ID 고객번호 ид_клиента номер_клиента"
    ),
    IdName.PERSON: "acct_no account_number EmployeeNumber номер_счета",
    IdName.ID: "id ID Id CID uuid идентификатор",
    IdName.OTHER: "Booking_ID subscription_id plan_id customer_key",
    IdName.NUMBER: "policy_number membership_no номер house_number",
    IdName.CONTACT: "phonenumber phone_number msisdn email E-mail EmailAddress telefono 電話番号",
    IdName.PERSON_ALONE: "client cliente Kunde customer account",
    None: (
        "RowNumber row_id index S.No 序号 State num_users number_of_accounts no_of_adults NumCompaniesWorked "
        "Customer_Age paid avoid valid void months Name gender tenure account_type Employee_Count customer_since "
        "kids_count PhoneService phone_hours monkey client_type member_count"
    ),
}


@pytest.mark.parametrize(("kind", "names"), NAMES.items(), ids=lambda v: getattr(v, "name", None))
def test_a_name_says_what_kind_of_id_it_is(kind, names):
    assert {name: id_name(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_blanks_marks_and_width_of_letters_do_not_matter():
    for name in (" Customer Id ", "customer.id", "CUSTOMER-ID", "Customer (ID)", "ＣｕｓｔｏｍｅｒＩＤ"):  # noqa: RUF001
        assert id_name(name) is IdName.CUSTOMER
    assert split_name("IDCliente2") == "ID_Cliente2"


def test_names_of_row_numbers_are_no_ids():
    names = ("RowNumber", "row_num", "Unnamed: 0", "index", "__index_level_0__", "record_id", "lfd. Nr.", "行番号")
    assert all(is_row_number(name) and id_name(name) is None for name in names)
    assert not any(is_row_number(name) for name in ("customer_id", "id", "number_of_rows", "growth_number"))
