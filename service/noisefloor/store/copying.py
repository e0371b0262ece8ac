"""Every row of every table, from one database to another; and whether the two hold the same."""

import itertools
import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Integer,
    RowMapping,
    String,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)

from noisefloor.errors import CannotMoveError
from noisefloor.store.condition import named
from noisefloor.store.session import shown
from noisefloor.store.tables import Base

BATCH = 200
INTEGER_BITS = 31

TABLES = Base.metadata.sorted_tables  # what is referred to comes first


def counts(connection: Connection) -> dict[str, int]:
    """The number of rows of each table that is there; an older schema has fewer."""
    there = set(inspect(connection).get_table_names())
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in TABLES
        if table.name in there
    }


def require_empty(connection: Connection) -> None:
    """Refuse a database in which there is a row."""
    for table in TABLES:
        if connection.execute(select(1).select_from(table).limit(1)).first() is not None:
            raise CannotMoveError(
                f"{shown(connection.engine.url)} holds rows in {table.name}: an empty database is needed"
            )


def lock(connection: Connection, mode: str) -> None:
    """Keep others from writing on PostgreSQL until the transaction ends; on SQLite the lock file does."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in TABLES)
        connection.execute(text(f"LOCK TABLE {names} IN {mode} MODE NOWAIT"))


def rows(connection: Connection, table: Table) -> Iterator[RowMapping]:
    """The rows of a table in the order of their keys' bytes, a batch in memory at a time."""
    order: list[Any] = [_by_bytes(connection, column) for column in table.primary_key]
    with (
        named(connection.engine),
        connection.execute(select(table).order_by(*order), execution_options={"yield_per": BATCH}) as result,
    ):
        yield from result.mappings()


def copy(source: Connection, target: Connection, table: Table) -> Iterator[int]:
    """Insert the rows of a table; yields how many there were in each batch.

    Rows may refer to later ones of their table, so they are told of each other at the end.
    """
    own = [key.parent for key in table.foreign_keys if key.column.table is table]
    nobody = dict.fromkeys(column.name for column in own)
    stream = rows(source, table)
    while batch := [{**row, **nobody} for row in itertools.islice(stream, BATCH)]:
        target.execute(insert(table), batch)
        yield len(batch)
    for column in own:
        (own_key,) = table.primary_key
        for referring, referred in source.execute(select(own_key, column).where(column.is_not(None))):
            target.execute(update(table).where(own_key == referring).values({column: referred}))


def compare(source: Connection, target: Connection, table: Table) -> Iterator[int]:
    """Hold each row against its copy, column by column; yields 1 a row.

    Raises `CannotMoveError` with the first row that differs, or that only one side has.
    """
    signed = {"sqlite"}.isdisjoint({source.dialect.name, target.dialect.name})
    for given, got in itertools.zip_longest(rows(source, table), rows(target, table)):
        if given is None or got is None or key(table, given) != key(table, got):
            at = " and ".join(_key_text(table, row) if row else "nothing" for row in (given, got))
            raise CannotMoveError(f"{table.name} differs: {at} stand in the same place")
        for column in table.columns:
            if not same(given[column.name], got[column.name], signed=signed):
                raise CannotMoveError(
                    f"{table.name} {_key_text(table, given)}, column {column.name}:"
                    f" {given[column.name]!r} became {got[column.name]!r}"
                )
        yield 1


def look(source: Connection, target: Connection, table: Table) -> Iterator[int]:
    """Look for values that PostgreSQL does not take, where it is the target; yields 1 a row.

    Raises `CannotMoveError` with the first of them.
    """
    if target.dialect.name != "postgresql":
        return
    for row in rows(source, table):
        for column in table.columns:
            if (reason := _unfit(column, row[column.name])) is not None:
                raise CannotMoveError(
                    f"{table.name} {_key_text(table, row)}, column {column.name}:"
                    f" {reason}, which PostgreSQL refuses"
                )
        yield 1


def key(table: Table, row: RowMapping) -> tuple[Any, ...]:
    """What tells a row from the others of its table."""
    return tuple(row[column.name] for column in table.primary_key)


def same(given: Any, got: Any, *, signed: bool = True) -> bool:
    """Whether two values are one: floats of columns to the last bit, documents as JSON has them.

    To JSON 1e22 and 10000000000000000000000 are one number, and PostgreSQL keeps the latter. `signed` tells
    -0.0 from 0.0, which SQLite does not keep.

    >>> same(0.1, 0.1), same(-0.0, 0.0), same(None, 0.0), same(float("nan"), float("nan"))
    (True, False, False, True)
    >>> same({"a": 1e22, "b": None}, {"b": None, "a": 10**22}), same({"b": None}, {})
    (True, False)
    """
    match given:
        case dict() | list():
            return _same_document(given, got)
        case float():
            zeros = signed or given != 0.0
            return isinstance(got, float) and (given.hex() == got.hex() if zeros else given == got)
        case _:
            return type(given) is type(got) and bool(given == got)


def _same_document(given: Any, got: Any) -> bool:
    match given:
        case dict():
            return (
                isinstance(got, dict)
                and given.keys() == got.keys()
                and all(_same_document(value, got[name]) for name, value in given.items())
            )
        case list():
            return (
                isinstance(got, list)
                and len(given) == len(got)
                and all(_same_document(*pair) for pair in zip(given, got, strict=True))
            )
        case int() | float() if not isinstance(given, bool):
            number = isinstance(got, int | float) and not isinstance(got, bool)
            return number and Decimal(repr(given)) == Decimal(repr(got))
        case _:
            return type(given) is type(got) and bool(given == got)


def _by_bytes(connection: Connection, column: Column[Any]) -> Any:
    words = connection.dialect.name == "postgresql" and isinstance(column.type, String)
    return column.collate("C") if words else column


def _unfit(column: Column[Any], value: Any) -> str | None:
    match value:
        case str() if "\0" in value:
            return "a NUL character"
        case str() if (length := getattr(column.type, "length", None)) and len(value) > length:
            return f"{len(value)} characters where {length} fit"
        case int() if _is_narrow(column) and not -(2**INTEGER_BITS) <= value < 2**INTEGER_BITS:
            return f"{value}, which is no 32-bit integer"
        case dict() | list() if isinstance(column.type, JSON):
            return next(_unfit_parts(value), None)
        case _:
            return None


def _unfit_parts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, part in value.items():
                yield from _unfit_parts(name)
                yield from _unfit_parts(part)
        case list():
            for part in value:
                yield from _unfit_parts(part)
        case str():
            if "\0" in value:
                yield "a NUL character"
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                yield "half of a surrogate pair"
        case float() if not math.isfinite(value):
            yield f"{value} in a document"


def _is_narrow(column: Column[Any]) -> bool:
    return isinstance(column.type, Integer) and not isinstance(column.type, BigInteger)


def _key_text(table: Table, row: RowMapping) -> str:
    parts = (part.isoformat() if isinstance(part, date | datetime) else str(part) for part in key(table, row))
    return " ".join(parts)
