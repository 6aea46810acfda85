#!/usr/bin/env python3
"""Writes the hand-made fuzz corpora of the tokenizers: small files, valid and hostile, one idea each (make_corpus.py has
those of the other formats)."""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"
for folder in ("tokenizer_json", "rwkv_vocabulary", "sentencepiece"):
    (ROOT / folder).mkdir(parents=True, exist_ok=True)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_characters():
    """The characters by which tokenizer.json writes the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)}


def byte_level():
    """A small tokenizer.json that is read."""
    vocabulary = {c: b for b, c in byte_characters().items()}
    merges = [["a", "b"], ["ab", "ab"], ["\u0120", "t"], ["h", "e"], ["\u0120t", "he"]]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 261, "content": "<|end|>", "special": True, "normalized": False, "lstrip": False}],
            "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
            "post_processor": None, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "dropout": None, "vocab": vocabulary, "merges": merges}}


def tokenizer_json(name, change=lambda tree: None):
    tree = byte_level()
    change(tree)
    (ROOT / "tokenizer_json" / name).write_text(json.dumps(tree, separators=(",", ":")))


def llama3(tree):
    tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}
    tree["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {
        "type": "TemplateProcessing", "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [261]}},
        "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}
    tree["model"]["ignore_merges"] = True


tokenizer_json("gpt2")
tokenizer_json("llama3", llama3)
tokenizer_json("neox", lambda t: t.update(normalizer={"type": "NFC"}, added_tokens=t["added_tokens"] + [
    {"id": 262, "content": "  ", "special": False, "normalized": True}]))
tokenizer_json("prefix_space", lambda t: t["pre_tokenizer"].update(add_prefix_space=True))
tokenizer_json("merges_as_strings", lambda t: t["model"].update(merges=[" ".join(m) for m in t["model"]["merges"]]))
tokenizer_json("merge_unknown", lambda t: t["model"]["merges"].append(["x\n", "y"]))
tokenizer_json("merge_of_three", lambda t: t["model"]["merges"].append("a b c"))
tokenizer_json("id_twice", lambda t: t["model"]["vocab"].update(xyz=5))
tokenizer_json("id_huge", lambda t: t["model"]["vocab"].update(xyz=1 << 62))
tokenizer_json("id_largest", lambda t: t["model"]["vocab"].update(xyz=(1 << 31) - 1))
tokenizer_json("byte_missing", lambda t: t["model"]["vocab"].pop("a"))
tokenizer_json("word_piece", lambda t: t["model"].update(type="WordPiece"))
tokenizer_json("added_empty", lambda t: t["added_tokens"].append({"id": 262, "content": ""}))
tokenizer_json("nested", lambda t: t.update(post_processor={"type": "Sequence", "processors": [{"type": "Sequence"}]}))
(ROOT / "tokenizer_json" / "brackets").write_bytes(b"[" * 3000)
(ROOT / "tokenizer_json" / "not_utf8").write_bytes(b'{"model":"\xff"}')
(ROOT / "tokenizer_json" / "empty").write_bytes(b"")


def rwkv(name, *lines, whole=True):
    first = [f"{b + 1} {chr(b) if b < 128 else bytes([b])!r} 1" for b in range(128, 256)] if whole else []
    first += [f"{b + 1} {chr(b)!r} 1" for b in range(128)] if whole else []
    (ROOT / "rwkv_vocabulary" / name).write_bytes("\n".join([*first, *lines, ""]).encode("utf-8", "surrogateescape"))


rwkv("bytes")
rwkv("words", "257 'ab' 2", "258 'abab' 4", "259 ' the' 4", r"260 '\n\n' 2", "261 '\u4e2d' 3", r"262 '\u2028' 3")
rwkv("quotes", r"""257 "it's" 4""", r"""258 '\'"' 2""", r"259 b'\xff\xfe' 2")
rwkv("carriage_returns", "257 'ab' 2\r", "258 'cd' 2\r")
rwkv("id_twice", "257 'ab' 2", "257 'cd' 2")
rwkv("token_twice", "257 'ab' 2", "258 'ab' 2")
rwkv("length_wrong", "257 'ab' 3")
rwkv("length_huge", "257 'ab' 99999999999999999999")
rwkv("unclosed", "257 'ab 2")
rwkv("surrogate", r"257 '\ud800' 3")
rwkv("escape_cut", r"257 '\x4' 1")
rwkv("not_utf8", "257 '\udcff' 1")
rwkv("one", "1 'a' 1", whole=False)
rwkv("blank", "", "", whole=False)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def piece(text, score=-1.0, kind=1):
    return field(1, field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + field(3, kind))


def sentencepiece(name, pieces, trainer=b"", normalizer=b""):
    (ROOT / "sentencepiece" / name).write_bytes(
        piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + pieces + field(2, trainer) + field(3, normalizer))


def charsmap():
    """Replaces "ab" by "X" and "a" by nothing: a double array whose units' children are at place ^ offset ^ byte."""
    units = [0] * 256
    units[0] = 1 << 10
    units[1 ^ ord("a")] = 0x80 << 10 | 1 << 8 | ord("a")
    a = 1 ^ ord("a") ^ 0x80
    units[a] = 0x80000002
    units[a ^ ord("b")] = 0x10 << 10 | 1 << 8 | ord("b")
    units[a ^ ord("b") ^ 0x10] = 0x80000000
    return struct.pack("<I256I", 1024, *units) + b"X\0\0"


words = piece("\u2581") + piece("a", -2) + piece("b", -3) + piece("ab", -1) + piece("\u2581ab", -0.5) + piece("abab", -0.1)
fallback = b"".join(piece(f"<0x{b:02X}>", 0, 6) for b in range(256))
sentencepiece("unigrams", words)
sentencepiece("byte_pairs", words, field(3, 2))
sentencepiece("llama2", fallback + words, field(3, 2) + field(35, 1), field(4, 0))
sentencepiece("user_defined", words + piece("cat's", 0, 4) + piece("\u2581\u2581", 0, 4), field(3, 2))
sentencepiece("unused", words + piece("ba", -0.2, 5) + piece("bab", -0.1, 5), field(3, 2))
sentencepiece("charsmap", words, b"", field(2, charsmap()))
sentencepiece("charsmap_broken", words, b"", field(2, b"\xff\xff\xff\x7fxx"))
sentencepiece("charsmap_astray", words, b"", field(2, struct.pack("<I4I", 16, 0xFFFFFFFF, 0x1FF, 0x3FF, 0xFFFFFD00) + b"\0"))
sentencepiece("piece_twice", words + words)
sentencepiece("score_nan", piece("a", float("nan")))
sentencepiece("fallback_in_part", fallback[:500] + words, field(35, 1))
sentencepiece("words", words, field(3, 3))
sentencepiece("group", words + varint(9 << 3 | 3))
sentencepiece("cut", words + b"\x0a\x7f\x0a")
(ROOT / "sentencepiece" / "empty").write_bytes(b"")
