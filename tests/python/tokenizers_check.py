"""Compares the program's tokenizers, id by id, with the packages that they follow: tokenizers (byte-level BPE), sentencepiece
and rwkv (its "world" vocabulary). All but the last are trained here, on this repository's own files.

Usage: tokenizers_check.py PROGRAM SOURCE_FOLDER
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

import sentencepiece
import tokenizers
from rwkv import rwkv_tokenizer
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPACES = "\t\n\v\f\r \x1c\x1f\x85\xa0\u1680\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
failures = 0


def ask(path, questions):
    """Texts become ids, lists of ids text."""
    lines = "".join(json.dumps(q) + "\n" for q in questions)
    done = subprocess.run([PROGRAM, "tokenize", str(path), "--json"], input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"FAILED: {PROGRAM} tokenize {path}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(name, path, texts, encode, decode=None):
    global failures
    ids = [list(encode(text)) for text in texts]
    wrong = [(t, w, g) for t, w, g in zip(texts, ids, ask(path, texts), strict=True) if w != g]
    if decode:
        wrong += [(i, decode(i), g) for i, g in zip(ids, ask(path, ids), strict=True) if decode(i) != g]
    print(f"{name}: {len(texts)} texts, {sum(map(len, ids))} tokens, {len(wrong)} differences")
    for given, want, got in wrong[:5]:
        print(f"  {given!r}\n    expected {want!r}\n    got      {got!r}")
    failures += len(wrong)


def texts(extra=()):
    """Real files, and random strings of what splits and merges trip over."""
    rng = random.Random(4)
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    letters = [c for c in assigned if unicodedata.category(c)[0] in "LM"]
    numbers = [c for c in assigned if unicodedata.category(c)[0] == "N"]
    pieces = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'LL", "'D", "'\u017f", "'\u212a", "'", "''s",
              "e\u0301", "\u00e9", "\u212b", "\u1e9b\u0323", "\uac00\u11a8", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F1E9\U0001F1EA",
              "\u4e2d\u6587", "\u0e20\u0e32\u0e29\u0e32", "\u0627\u0644", "\ufb01", "\u00bd", "\u2167", "the", "The ", " and", "int64_t", "\r\n", "\n\n", "  ",
              "    ", "\u2581", "\u2581\u2581", "<0x0A>", "<s>", "</s>", "<unk>", "\0", "\x7f", "\ufffd", "0123456789", "1,234.5", *extra]
    sources = [lambda: rng.choice(pieces), lambda: rng.choice(SPACES), lambda: rng.choice(SPACES) * rng.randint(1, 9),
               lambda: rng.choice(letters), lambda: rng.choice(numbers), lambda: rng.choice(assigned),
               lambda: chr(rng.randint(32, 126)), lambda: chr(rng.randint(32, 126)), lambda: " "]
    result = ["", " ", "\n", " a", "a ", "  a  "]
    for _ in range(4000):
        result.append("".join(rng.choice(sources)() for _ in range(rng.randint(1, 24))))
    result += [f.read_text(encoding="utf-8") for f in files()]
    result.append("a" * 5000 + " " * 5000 + "1" * 5000 + "\u4e2d" * 5000)
    return result


def files():
    def ours(path):
        return not any(part == "build" or part.startswith(".") for part in path.relative_to(SOURCE).parts)

    sources = [p for pattern in ("*.h", "*.cpp") for p in SOURCE.glob("*/**/" + pattern)]
    return sorted(filter(ours, sources))[:120] + [SOURCE / "README.md"]


def corpus():
    return [f.read_text(encoding="utf-8") for f in files()] + texts()[6:2000]


def byte_level(folder):
    def trained(name, pre_tokenizer, normalizer=None, template=False, added=(), **model):
        tokenizer = tokenizers.Tokenizer(models.BPE(**model))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
            vocab_size=3000, show_progress=False, special_tokens=["<|endoftext|>", "<|begin|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.add_tokens(list(added))
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        if template:
            tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
                single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))])])
        path = folder / name
        path.mkdir()
        tokenizer.save(str(path / "tokenizer.json"))
        extra = ["<|endoftext|>", "<|begin|>", "<|end", *(str(a) for a in added)]
        compare(f"tokenizer.json, {name}", path, texts(extra), lambda t: tokenizer.encode(t).ids,
                lambda ids: tokenizer.decode(ids, skip_special_tokens=False))
        # The same with merges as strings, as files of old have them.
        tree = json.loads((path / "tokenizer.json").read_text())
        tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]
        (path / "old.json").write_text(json.dumps(tree))
        compare(f"tokenizer.json, {name}, merges as strings", path / "old.json", texts(extra)[:500], lambda t: tokenizer.encode(t).ids)

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    llama3 = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trained("gpt2", gpt2)
    trained("gpt2_prefix_space", pre_tokenizers.ByteLevel(add_prefix_space=True))
    # As GPT-NeoX: composed, and runs of spaces as tokens of their own.
    trained("neox", gpt2, normalizer=normalizers.NFC(), added=[AddedToken(" " * n, normalized=True) for n in range(2, 12)] + ["o\u0302\u0300"])
    trained("llama3", llama3, template=True)
    trained("llama3_ignore_merges", llama3, template=True, ignore_merges=True)


def sentence_pieces(folder):
    text = folder / "corpus.txt"
    text.write_text("\n".join(line for document in corpus() for line in document.splitlines() if "\0" not in line))

    def trained(name, frame=False, **options):
        path = folder / name
        path.mkdir()
        sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=str(path / "tokenizer"), vocab_size=2000,
                                                 minloglevel=2, max_sentence_length=20000, character_coverage=0.99, **options)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"), add_bos=frame)
        if frame:
            (path / "tokenizer_config.json").write_text('{"add_bos_token": true, "add_eos_token": false}')
        compare(f"tokenizer.model, {name}", path, texts(["[ONE]", "two words"]), processor.encode,
                lambda ids: processor.decode(ids))

    # As Llama 2 and Mistral.
    trained("llama2", frame=True, model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            split_digits=True, allow_whitespace_only_pieces=True)
    trained("byte_pairs", model_type="bpe", user_defined_symbols=["[ONE]", "two words", "int64_t"])
    trained("unigrams", model_type="unigram", user_defined_symbols=["[ONE]", "two words"])
    trained("unigrams_bytes", model_type="unigram", byte_fallback=True, normalization_rule_name="nfkc_cf", add_dummy_prefix=False)


def world():
    vocabulary = pathlib.Path(rwkv_tokenizer.__file__).parent / "rwkv_vocab_v20230424.txt"
    tokenizer = rwkv_tokenizer.TRIE_TOKENIZER(str(vocabulary))
    compare("rwkv world", vocabulary, texts(), tokenizer.encode, tokenizer.decode)


with tempfile.TemporaryDirectory() as scratch:
    byte_level(pathlib.Path(scratch))
    sentence_pieces(pathlib.Path(scratch))
world()
sys.exit(f"FAILED: {failures} differences" if failures else 0)
