#!/usr/bin/env python3
"""Writes the hand-made fuzz corpus of compiled message catalogues: small files, valid and hostile, one idea each
(make_corpus.py has those of the other formats)."""
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus" / "gettext_catalogue"
ROOT.mkdir(parents=True, exist_ok=True)

PAIRS = [("", "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"), ("Save the file", "Datei speichern"),
         ("_Open...", "\u00d6_ffnen \u2026"), ("menu\4File", "Datei"), ("one file\0many files", "eine Datei\0viele Dateien")]


def strings_of(pairs, charset="utf-8"):
    raw = [tuple(side if isinstance(side, bytes) else side.encode(charset) for side in pair) for pair in pairs]
    return sorted(raw)


def catalogue(pairs, order="<", revision=0, change=None):
    """The bytes of a file as msgfmt lays it out, without a hash table; `change` may edit (offsets, tables, data)."""
    count = len(pairs)
    originals, translations = 28, 28 + 8 * count
    place, data, tables = translations + 8 * count, b"", [[], []]
    for side in range(2):
        for pair in pairs:
            tables[side].append([len(pair[side]), place + len(data)])
            data += pair[side] + b"\0"
    header = [0x950412DE, revision, count, originals, translations, 0, 0]
    if change:
        change(header, tables)
    words = header + [word for table in tables for entry in table for word in entry]
    return struct.pack(f"{order}{len(words)}I", *words) + data


def write(name, data):
    (ROOT / name).write_bytes(data)


VALID = strings_of(PAIRS)
write("little_endian", catalogue(VALID))
write("big_endian", catalogue(VALID, ">"))
write("revision_1", catalogue(VALID, revision=1))
write("revision_0_1", catalogue(VALID, revision=0x10001))
write("revision_2", catalogue(VALID, revision=0x20000))
write("empty", b"")
write("magic_alone", struct.pack("<I", 0x950412DE))
write("no_messages", catalogue([]))
write("no_header", catalogue(strings_of(PAIRS[1:])))
for charset in ("iso-8859-1", "koi8-r", "euc-jp"):
    text = {"iso-8859-1": "\u00d6ffnen", "koi8-r": "\u043e\u0442\u043a\u0440\u044b\u0442\u044c", "euc-jp": "\u958b\u304f"}[charset]
    write("in_" + charset.replace("-", "_"), catalogue(strings_of([("", f"Content-Type: text/plain; charset={charset.upper()}\n"), ("Open", text)], charset)))
write("charset_unknown", catalogue(strings_of([("", "Content-Type: text/plain; charset=../../x//TRANSLIT\n"), ("Open", "x")])))
write("charset_of_a_template", catalogue(strings_of([("", "Content-Type: text/plain; charset=CHARSET\n"), ("Open", "Auf")])))
write("charset_lies", catalogue(strings_of([("", "Content-Type: text/plain; charset=UTF-8\n"), ("Open", b"\xd6ffnen"), ("Close", b"\xc0\x80\xed\xa0\x80")])))
write("charset_cut", catalogue(strings_of([("", "Content-Type: text/plain; charset=EUC-JP\n"), ("Open", b"\xb3\xab\xa4")])))
write("mnemonics", catalogue(strings_of([("E&xit", "&Beenden"), ("_", "_"), ("&", "&&"), ("(_F)", "(_F)x"), ("a (_B)", "\u3042(_B)"), ("LC_ALL is set", "LC_ALL ist da")])))
write("markup", catalogue(strings_of([("100%", "100 %"), ("<b>x</b>", "y"), ("&lt;x", "y"), ("{0}", "x {0}"), ("a\1b", "c")])))
write("white_space", catalogue(strings_of([("a\n  b\t\n", " c\r\n d "), ("...", "\u2026"), ("a ...", "b \u2026")])))
write("cut_in_header", catalogue(VALID)[:20])
write("cut_in_table", catalogue(VALID)[:40])
write("cut_in_string", catalogue(VALID)[:-9])
write("last_zero_missing", catalogue(VALID)[:-1])


def damaged(name, edit):
    write(name, catalogue(VALID, change=edit))


damaged("count_huge", lambda header, tables: header.__setitem__(2, 0xFFFFFFFF))
damaged("count_wraps", lambda header, tables: header.__setitem__(2, 0x20000000))
damaged("table_beyond", lambda header, tables: header.__setitem__(3, 0xFFFFFFF0))
damaged("table_in_header", lambda header, tables: header.__setitem__(4, 0))
damaged("same_tables", lambda header, tables: header.__setitem__(4, 28))
damaged("length_huge", lambda header, tables: tables[0][1].__setitem__(0, 0xFFFFFFFF))
damaged("offset_huge", lambda header, tables: tables[1][1].__setitem__(1, 0xFFFFFFFF))
damaged("offset_of_the_end", lambda header, tables: tables[1][1].__setitem__(1, len(catalogue(VALID))))
damaged("overlap", lambda header, tables: tables.__setitem__(0, [[len(catalogue(VALID)) - 29, 28]] * len(VALID)))
damaged("length_too_short", lambda header, tables: tables[1][2].__setitem__(0, 1))
