"""One table of interactions written in random spellings: for the tests of `prepare`."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pyarrow as pa

TEXT_IDS = [
    ("007", "café"),
    ("007", "a,b"),
    ("0 8", "café"),
    ("7", 'say "x"'),
    ("0 8", "x;y"),
    ("7", "1e5"),
    ("007", "p|q"),
    ("éva", "café"),
    ("7", "a,b"),
    ("éva", "-1"),
]
NUMBER_IDS = [(7, 70), (7, 12), (8, 70), (70, 5), (8, 9), (70, 100), (7, 3), (12, 70), (70, 12)]
START = 1_417_421_000
NAMES = ("user_id", "item_id", "timestamp", "rating")
COMMENTS = ["", "fine", 'so, "so"', "two\nlines", "tab\there", "x;y|z::w", "ends \\", "'quoted'"]


@dataclass
class Spelling:
    """A written table and the options that describe it."""

    kind: str
    source: Path
    options: dict[str, object] = field(default_factory=dict)
    told: str = ""


def table(numbers):
    """Rows of the table: user, item, time in seconds, rating."""
    ids = NUMBER_IDS if numbers else TEXT_IDS
    times = [START + 86_400 * 40 * (7 * row % len(ids)) + 61 * row for row in range(len(ids))]
    return [(u, i, t, row % 5 + 1) for row, ((u, i), t) in enumerate(zip(ids, times, strict=True))]


def _written(form, zone=UTC):
    return lambda time: datetime.fromtimestamp(time, zone).strftime(form)


DATES = {
    "seconds": str,
    "float": lambda time: f"{time}.0",
    "ms": lambda time: f"{time}000",
    "us": lambda time: f"{time}000000",
    "iso": _written("%Y-%m-%d %H:%M:%S"),
    "iso T": _written("%Y-%m-%dT%H:%M:%S"),
    "iso Z": _written("%Y-%m-%dT%H:%M:%S.000Z"),
    "iso offset": _written("%Y-%m-%dT%H:%M:%S%z", timezone(timedelta(hours=2))),
    "german": _written("%d.%m.%Y %H:%M:%S"),
    "english": _written("%d/%m/%Y %H:%M:%S"),
    "american": _written("%m/%d/%Y %H:%M:%S"),
}
"""How a time may be written."""
WORDS = {
    "number": [str, str, lambda value: f"{value}.0", lambda value: f" {value}"],
    "text": [str, str, lambda value: f"{value} ", lambda value: f"  {value}"],
}
"""How an id may be written."""


def write(rng, folder):
    """Writes the table in a random spelling."""
    numbers = rng.random() < 0.4
    rows = table(numbers)
    rng.shuffle(rows)
    kind = rng.choice(["csv", "csv", "csv", "tsv", "jsonl", "parquet"])
    spelling = Spelling(kind, folder)
    spelling.told = f"{'numbers' if numbers else 'text'} {kind}"
    parts = rng.choice([1, 1, 2, 3])
    cuts = sorted(rng.randint(0, len(rows)) for _ in range(parts - 1))
    pieces = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    names = rng.choice([NAMES, ("the user", "Artikel-Nr. é", "when [utc]", "stars (1-5)")])
    for option, name, usual in zip(
        ("user_column", "item_column", "time_column", "weight_column"), names, NAMES, strict=True
    ):
        if name != usual:
            spelling.options[option] = name
    form = rng.choice(sorted(DATES))
    words = rng.choice(WORDS["number" if numbers else "text"])
    if kind != "parquet":
        pieces = [[(words(u), words(i), *rest) for u, i, *rest in piece] for piece in pieces]
    encoded = _writer(rng, spelling, names, form, numbers)
    bodies = [encoded(piece) for piece in pieces]
    stem = rng.choice(["ratings", "ratings[1]", "a b", "rat*ngs", "été", "r{x}?", "~r", "-"])
    suffix = rng.choice([f".{kind}", f".{kind}".upper(), ".txt", ".dat", ""])
    _store(rng, spelling, folder, stem + "x" * (stem == "-"), suffix, bodies)
    spelling.told += f" {form} {names[0]} {stem}{suffix} {spelling.options}"
    return spelling, numbers


def _writer(rng, spelling, names, form, numbers):
    if spelling.kind == "parquet":
        return _parquet(rng, spelling, names, numbers)
    order = rng.sample(range(5), 5)
    if spelling.kind == "jsonl":
        encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
        return _json_lines(rng, spelling, names, form, order, encoding)
    return _delimited(rng, spelling, names, form, order)


def _cells(row, form, comment):
    user, item, time, rating = row
    return [user, item, DATES[form](time), rating, comment]


def _encode(spelling, text, encoding):
    if encoding not in ("utf-8", "utf-8-sig", "utf-16"):
        spelling.options["encoding"] = encoding
    return text.encode(encoding)


def _json_lines(rng, spelling, names, form, order, encoding):
    end = rng.choice(["\n", "\r\n"])
    blank = rng.choice(["", end, end * 2])
    ascii_only = rng.random() < 0.5

    def encoded(rows):
        lines = []
        for row in rows:
            cells = dict(
                zip((*names, "note"), _cells(row, form, rng.choice(COMMENTS)), strict=True)
            )
            keys = [(*names, "note")[place] for place in order]
            lines.append(json.dumps({k: cells[k] for k in keys}, ensure_ascii=ascii_only))
        return _encode(spelling, "".join(line + end for line in lines) + blank, encoding)

    spelling.told += f" {encoding} {end!r} {blank!r}"
    return encoded


def _delimited(rng, spelling, names, form, order):
    usual = {"csv": ",", "tsv": "\t"}[spelling.kind]
    delimiter = rng.choice([usual, usual, ",", ";", "\t", "|", "::", "\x01", "¦"])
    quoted = delimiter in (",", ";", "|") or (len(delimiter.encode()) == 1 and rng.random() < 0.5)
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "gbk"])
    if delimiter == "¦" and encoding == "gbk":
        encoding = "utf-8"
    end = rng.choice(["\n", "\n", "\r\n", "\r"]) if not quoted else rng.choice(["\n", "\r\n"])
    final, blank = rng.random() < 0.8, rng.choice(["", "", end])
    header = rng.random() < 0.7
    every = rng.random() < 0.3
    comment = rng.choice([None, None, "#"])
    if delimiter != usual:
        spelling.options["delimiter"] = rng.choice(
            [delimiter, {"\t": r"\t"}.get(delimiter, delimiter)]
        )
    if quoted and delimiter not in (",", ";"):
        spelling.options["quote"] = '"'
    if comment:
        spelling.options["comment"] = comment
    columns = [(*names, "note")[place] for place in order]
    if not header:
        spelling.options["header"] = "none"
        for option, name in zip(
            ("user_column", "item_column", "time_column", "weight_column"), names, strict=True
        ):
            spelling.options[option] = str(columns.index(name) + 1)
    notes = COMMENTS if quoted else ["", "fine", "'quoted'", "ends \\"]

    def line(cells):
        return delimiter.join(_quoted(str(cell), delimiter, quoted, every) for cell in cells)

    def encoded(rows):
        lines = [line(columns)] if header else []
        if comment:
            lines.insert(0, "# written by a machine")
        for row in rows:
            cells = _cells(row, form, rng.choice(notes))
            lines.append(line([cells[place] for place in order]))
        text = end.join(lines) + (end + blank if final else "")
        return _encode(spelling, text, encoding) if lines else b""

    spelling.told += f" {delimiter!r} quoted={quoted} {encoding} {end!r} {final} {blank!r}"
    return encoded


def _quoted(text, delimiter, quoted, every):
    if not quoted:
        return text
    if every or any(mark in text for mark in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _parquet(rng, spelling, names, numbers):
    kinds = ["int64", "int32", "uint64", "float64", "text"] if numbers else ["text", "bytes", "cat"]
    id_type = rng.choice(kinds)
    time_type = rng.choice(["int64", "text", "ms", "us", "ns", "zone", "float64", "decimal"])
    rating = rng.choice([pl.Int8, pl.Float32, pl.Decimal(5, 2), pl.String])
    mixed = rng.random() < 0.3
    lists = rng.random() < 0.2
    order = rng.sample(names, 4)

    def column(values, id_type):
        if id_type == "bytes":
            return pl.Series([str(value).encode() for value in values], dtype=pl.Binary)
        if id_type in ("text", "cat"):
            dtype = pl.String if id_type == "text" else pl.Categorical
            return pl.Series([str(value) for value in values], dtype=pl.String).cast(dtype)
        dtype = {"int64": pl.Int64, "int32": pl.Int32, "uint64": pl.UInt64, "float64": pl.Float64}
        return pl.Series(values, dtype=dtype[id_type])

    def encoded(rows):
        chosen = rng.choice(kinds[:4]) if mixed and numbers else id_type
        users, items, times, ratings = zip(*rows, strict=True) if rows else ((), (), (), ())
        stamps = pl.Series(times, dtype=pl.Int64)
        if time_type == "text":
            stamps = stamps.cast(pl.String)
        elif time_type == "zone":
            stamps = (stamps * 10**6).cast(pl.Datetime("us", "UTC"))
            stamps = stamps.dt.convert_time_zone("Asia/Tokyo")
        elif time_type in ("float64", "decimal"):
            stamps = stamps.cast(pl.Float64 if time_type == "float64" else pl.Decimal(15, 3))
        elif time_type != "int64":
            scale = {"ms": 10**3, "us": 10**6, "ns": 10**9}[time_type]
            stamps = (stamps * scale).cast(pl.Datetime(time_type))
        frame = pl.DataFrame(
            {
                names[0]: column(users, chosen),
                names[1]: column(items, chosen),
                names[2]: stamps,
                names[3]: pl.Series(ratings, dtype=pl.Int64).cast(rating),
            }
        )
        if lists and id_type != "cat":
            user = pl.col(names[0])
            frame = frame.group_by(user.rle_id().alias("run"), maintain_order=True).agg(
                user.first(), pl.all().exclude(names[0])
            )
        buffer = io.BytesIO()
        frame.select(order).write_parquet(buffer, compression=rng.choice(["zstd", "snappy"]))
        return buffer.getvalue()

    spelling.told += f" {id_type} {time_type} {rating} mixed={mixed} lists={lists}"
    return encoded


def _zipped(body, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        archive.writestr(f"folder/{name}", body)
        archive.writestr(f"__MACOSX/folder/._{name}", b"\0\5\x16\7")
    return buffer.getvalue()


def _tarred(body, name):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


PACKINGS = {
    "": lambda body, name: body,
    ".gz": lambda body, name: gzip.compress(body),
    " .gz in two": lambda body, name: gzip.compress(body[:30]) + gzip.compress(body[30:]),
    ".bz2": lambda body, name: bz2.compress(body),
    ".xz": lambda body, name: lzma.compress(body),
    ".zst": lambda body, name: pa.compress(body, codec="zstd", asbytes=True),
    ".zip": _zipped,
    ".tar.gz": _tarred,
}


def _store(rng, spelling, folder, stem, suffix, bodies):
    packing = rng.choice(["", "", *PACKINGS])
    shown = packing if packing.startswith(".") and rng.random() < 0.7 else ""
    spelling.told += f" {packing}({shown}) {len(bodies)} parts"
    if len(bodies) == 1:
        spelling.source = folder / f"{stem}{suffix}{shown}"
        spelling.source.write_bytes(PACKINGS[packing](bodies[0], f"{stem}{suffix}"))
        # A neighbour that a pattern would match: other rows.
        (folder / f"ratings1{suffix}").write_bytes(b"no table")
        return
    parts = folder / stem
    parts.mkdir()
    (parts / "_SUCCESS").write_bytes(b"")
    for number, body in enumerate(bodies):
        name = f"part-{number}{suffix}"
        packed = PACKINGS[packing](body, name) if body else b""
        (parts / f"{name}{shown}").write_bytes(packed)
        (parts / f".{name}.crc").write_bytes(b"crc")
    spelling.source = parts if rng.random() < 0.7 or stem != "ratings" else parts / "part-*"


def seeded(seed):
    """A random generator of the standard library."""
    return random.Random(seed)
