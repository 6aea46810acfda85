#!/usr/bin/env python3
"""Writes the hand-made part of the fuzz corpora: small files, valid and hostile, one idea each.

(corpus/safetensors/numpy.safetensors is by the `safetensors` package itself; the files that this script does not write are
inputs on which fuzzing found a fault.)
"""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"


def toml(name, recipe, *assignments):
    parts = [recipe.encode() if isinstance(recipe, str) else recipe]
    parts += [a.encode() if isinstance(a, str) else a for a in assignments]
    (ROOT / "toml" / name).write_bytes(b"\0".join(parts))


def safetensors(name, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    length = len(text) if length is None else length
    (ROOT / "safetensors" / name).write_bytes(struct.pack("<Q", length) + text + data)


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


for folder in ("toml", "safetensors"):
    (ROOT / folder).mkdir(parents=True, exist_ok=True)

toml("every_kind", """flag = true
integer = 4
number = 1  # an integer serves
text = 'plain'
choice = "post"
integers = [1, 2]
texts = ["a", "b"]
[tree]
x.y = {z = [1.5, -inf, nan]}
""")
toml("overrides", """[[tree]]
name = "lstm"
[[tree]]
name = "mamba"
""", "tree.0.width=64", "tree.mamba.width=[1, 2]", "tree.mamab.width=1", "integer=0x10", "text=a bare string", "new.key=1")
toml("assignments_hostile", "a = 1", "", "=", "a", "a=", "a.b=1", "a..b=1", "'x=1", 'a."b=c".d=2', "a=[1", "a={", "a=1\nb=2",
     "a=2026-01-02", b"a=\xff", "a=" + "." * 99)
toml("unknown_key", "integr = 4\n")
toml("wrong_kind", "integers = [1, 'two']\n")
toml("out_of_range", "number = -0.5\ninteger = 1025\n")
toml("dates", "text = 2026-01-02T03:04:05+01:00\n")
toml("strings", 'text = """\\\n  a \\u00e9 \\U0001F40E "" ""\\""""""\ntexts = [\'\'\'\n\'quotes\'\'\'\'\', "\\t\\\\"]\n')
toml("byte_order_mark", b"\xef\xbb\xbfinteger = 4\r\n")
toml("not_utf8", b"text = '\xc3\x28 \xff'\n")
toml("overlong_utf8", b"text = '\xc0\x80\xed\xa0\x80'\n")
toml("dots", "a." * 40 + "a = 1\n")
toml("brackets", "tree = " + "[" * 40 + "]" * 40 + "\n")
toml("brackets_within", "tree = " + "[" * 30 + "]" * 30 + "\n")
toml("inline_tables", "tree = {a={a={a={a={a.a.a.a=1}}}}}\n")
toml("redefined", "[a]\n[a.b]\n[a]\nc = 1\n")
toml("array_of_tables_clash", "a = []\n[[a]]\nb = 1\n")
toml("numbers", "tree = [0x7fffffffffffffff, -9223372036854775808, 1_000, 1e400, -0.0, 0b11, 0o17, 9223372036854775808]\n")
toml("unclosed", "text = \"\"\"abc\n")
toml("empty", "")

eight = bytes(range(8))
safetensors("one", {"w": tensor("F32", [2], 0, 8)}, eight)
safetensors("two_and_metadata", {"__metadata__": {"a": "b", "é": ""}, "v": tensor("U8", [4], 0, 4), "w": tensor("I16", [2, 1], 4, 8)}, eight)
safetensors("none", b"{}      ")
safetensors("scalar_and_empty", {"s": tensor("F64", [], 0, 8), "e": tensor("BF16", [3, 0], 8, 8)}, eight)
safetensors("misaligned", {"b": tensor("U8", [1], 0, 1), "f": tensor("F32", [1], 1, 5)}, eight[:5])
safetensors("bool", {"w": tensor("BOOL", [4], 0, 4)}, b"\0\1\1\0")
safetensors("bool_of_two", {"w": tensor("BOOL", [4], 0, 4)}, b"\0\1\2\0")
safetensors("header_too_long", {"w": tensor("F32", [2], 0, 8)}, eight, length=1 << 40)
safetensors("header_negative", {}, length=(1 << 64) - 1)
safetensors("header_over_100_mb", {}, length=100_000_001)
safetensors("header_cut", {"w": tensor("F32", [2], 0, 8)}, length=200)
safetensors("data_cut", {"w": tensor("F32", [2], 0, 8)}, eight[:7])
safetensors("data_left_over", {"w": tensor("F32", [2], 0, 8)}, eight + b"x")
safetensors("hole", {"v": tensor("U8", [2], 0, 2), "w": tensor("U8", [4], 4, 8)}, eight)
safetensors("overlap", {"v": tensor("U8", [5], 0, 5), "w": tensor("U8", [4], 4, 8)}, eight)
safetensors("backwards", {"w": tensor("F32", [2], 8, 0)}, eight)
safetensors("size_mismatch", {"w": tensor("F32", [3], 0, 8)}, eight)
safetensors("shape_overflow", {"w": tensor("F32", [1 << 62, 1 << 62], 0, 8)}, eight)
safetensors("shape_overflow_empty", {"w": tensor("F32", [1 << 62, 1 << 62, 0], 0, 0)})
safetensors("shape_huge", {"w": tensor("U8", [1 << 50], 0, 1 << 50)}, eight)
safetensors("shape_negative", {"w": tensor("F32", [-2], 0, 8)}, eight)
safetensors("shape_real", {"w": tensor("F32", [2.0], 0, 8)}, eight)
safetensors("shape_of_many_axes", {"w": tensor("U8", [1] * 65, 0, 1)}, b"x")
safetensors("offsets_huge", {"w": tensor("U8", [1], (1 << 64) - 2, (1 << 64) - 1)}, eight)
safetensors("dtype_unknown", {"w": tensor("F8_E4M3", [8], 0, 8)}, eight)
safetensors("dtype_number", {"w": {"dtype": 3, "shape": [8], "data_offsets": [0, 8]}}, eight)
safetensors("name_twice", b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("key_unknown", {"w": dict(tensor("U8", [8], 0, 8), strides=[1])}, eight)
safetensors("keys_missing", {"w": {"dtype": "U8"}})
safetensors("metadata_number", {"__metadata__": {"a": 1}})
safetensors("nested", b'{"w":' + b"[" * 1000)
safetensors("not_utf8", b'{"\xff":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("surrogate_alone", b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("zero_byte", b"{}\0{}")
safetensors("list", b"[]")
(ROOT / "safetensors" / "short").write_bytes(b"abc")
