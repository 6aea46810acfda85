"""Compares `score` with the package sacrebleu, pair by pair and as corpora, on this repository's own text and random strings,
perturbed. Lines end at a newline, so what newlines do within a sentence is left to the unit tests.

Usage: translation_metrics.py PROGRAM SOURCE_FOLDER
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from sacrebleu.metrics import BLEU, CHRF

PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
SPACES = "\t\v\f \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
failures = 0


def sentences(rng):
    """Prose of this repository, and strings of what tokenizers trip over."""
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and chr(c) not in "\r\n"]
    pieces = ["&quot;", "&amp;", "&lt;", "&gt;", "&amp;lt;", "&", "<skipped>", "-", "--", ".", ",", "..", ",.", "1,000.5", "3-4", "x-5", "'s",
              "don't", "(well-known)", "K\u00e4ufer", "Gr\u00f6\u00dfe", "\u4eca\u5929\u5929\u6c14", "\u3002", "\uff0c", "\uff15.\uff15",
              "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F1E9\U0001F1EA", "e\u0301", "\u2013", "\u2026", "\u201e", "\0", "the", "cat", "sat", "mat"]
    sources = [lambda: rng.choice(pieces), lambda: rng.choice(pieces), lambda: rng.choice(SPACES), lambda: " ", lambda: " ",
               lambda: rng.choice(assigned), lambda: chr(rng.randint(32, 126)), lambda: chr(rng.randint(32, 126))]
    result = ["", " ", "the cat"]
    for file in [*sorted(SOURCE.glob("*.md")), *sorted(SOURCE.glob("architectures/**/*.md")), *sorted(SOURCE.glob("core/**/*.h"))]:
        result += [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    rng.shuffle(result)
    return result[:3000] + ["".join(rng.choice(sources)() for _ in range(rng.randint(0, 40))) for _ in range(3000)]


def perturbed(rng, sentence):
    if rng.random() < 0.1:
        return sentence
    parts = sentence.split(" ") if rng.random() < 0.5 else list(sentence)
    joint = " " if len(parts) < len(sentence) else ""
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(parts))
        change = rng.randint(0, 4)
        if change == 0:
            parts.insert(at, rng.choice(["the", ".", ",", "-", " ", "1", "'", "\u00e4", "\u4e2d"]))
        elif change == 1:
            del parts[at : at + rng.randint(1, 4)]
        elif change == 2:
            parts[at:at] = parts[max(0, at - 3) : at]
        elif parts:
            other = rng.randrange(len(parts))
            parts[other], parts[at - 1] = parts[at - 1], parts[other]
    return joint.join(parts)


def ask(hypotheses, references, *options):
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for name, lines in (("hypotheses.txt", hypotheses), ("references.txt", references)):
            files.append(pathlib.Path(scratch) / name)
            files[-1].write_bytes("".join(line + "\n" for line in lines).encode())
        done = subprocess.run([PROGRAM, "score", "--hypotheses", files[0], "--references", files[1], *options], capture_output=True)
    if done.returncode:
        sys.exit(f"FAILED: {PROGRAM} score: {done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(what, expected, got):
    """Both to many more digits than are printed."""
    global failures
    wrong = {key: (value, got[key]) for key, value in expected.items() if abs(value - got[key]) > 1e-9}
    if wrong:
        failures += 1
        if failures <= 10:
            print(f"{what}\n    (sacrebleu, ours): {wrong}")


def bleu(hypotheses, references, tokenizer, **options):
    score = BLEU(tokenize=tokenizer, **options).corpus_score(hypotheses, [references])
    return {"bleu": score.score, "brevity_penalty": score.bp, "hypothesis_words": score.sys_len, "reference_words": score.ref_len}


def chrf(hypotheses, references):
    return {"chrf": CHRF().corpus_score(hypotheses, [references]).score,
            "chrf++": CHRF(word_order=2).corpus_score(hypotheses, [references]).score}


def main():
    rng = random.Random(5)
    references = sentences(rng)
    hypotheses = [perturbed(rng, sentence) for sentence in references]
    # A sentence far from its reference, too.
    pairs = [*zip(hypotheses, references, strict=True), *zip(rng.sample(hypotheses, 500), rng.sample(references, 500), strict=True)]
    hypotheses, references = map(list, zip(*pairs))
    single_chrf = [chrf([h], [r]) for h, r in pairs]
    for tokenizer in ("13a", "none", "char"):
        ours = ask(hypotheses, references, "--tokenizer", tokenizer, "--sentence-level")
        for (hypothesis, reference), characters, got in zip(pairs, single_chrf, ours, strict=True):
            expected = bleu([hypothesis], [reference], tokenizer, effective_order=True) | characters
            expected |= {"exact_match": 100.0 * (hypothesis == reference), "sentences": 1}
            compare(f"{tokenizer}: {hypothesis!r}\n    for {reference!r}", expected, got)
        print(f"{tokenizer}: {len(pairs)} pairs, {failures} differences so far")
        # Corpora of all sizes, small ones with orders that have no match.
        for size in (1, 2, 3, 5, 10, 100, 1000, len(pairs)):
            start = rng.randint(0, len(pairs) - size)
            some = slice(start, start + size)
            expected = bleu(hypotheses[some], references[some], tokenizer) | chrf(hypotheses[some], references[some])
            (got,) = ask(hypotheses[some], references[some], "--tokenizer", tokenizer, "--json")
            compare(f"{tokenizer}, corpus of {size} pairs", expected, got)
            print(f"{tokenizer}: corpus of {size} pairs, BLEU {got['bleu']:.2f}, chrF2 {got['chrf']:.2f}, chrF2++ {got['chrf++']:.2f}")
    sys.exit(f"FAILED: {failures} differences" if failures else 0)


main()
