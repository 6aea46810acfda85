"""What a run on a GPU found (benchmarks/gpu/run), beside what was aimed at.

Usage: summary.py FOLDER                     prints the table of the files in FOLDER; those that are missing are named
       summary.py --merge RESULT FILE…       joins Google Benchmark's files, of which some may have been cut off
"""
import collections
import json
import pathlib
import sys

# (kernel, direction, rival): how many times as fast as it we mean to be on an H200, in bfloat16. Of the rivals in C++ the targets
# come with their rows.
PEER_TARGETS = {("selective_scan", "forward", "mamba_ssm"): 2.5, ("selective_scan", "backward", "mamba_ssm"): 3.0,
                ("ssd", "forward", "mamba_ssm"): 1.0}
ARCHITECTURES, LENGTHS = 12, (512, 1048576)


def read_cut(text):
    """Google Benchmark's JSON, also of a process that was ended while it wrote: its whole rows."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    end = len(text)
    while (end := text.rfind("}", 0, end)) >= 0:
        try:
            return json.loads(text[:end + 1] + "]}")
        except json.JSONDecodeError:
            pass
    return {}


def merge(result, files):
    whole = {"context": {}, "benchmarks": []}
    for file in files:
        part = read_cut(pathlib.Path(file).read_text())
        whole["context"] = part.get("context") or whole["context"]
        whole["benchmarks"] += part.get("benchmarks", [])
    if pathlib.Path(result).exists():  # of an earlier call: what was measured anew takes its place
        names = {row["name"] for row in whole["benchmarks"]}
        before = json.loads(pathlib.Path(result).read_text())["benchmarks"]
        whole["benchmarks"] = [row for row in before if row["name"] not in names] + whole["benchmarks"]
    pathlib.Path(result).write_text(json.dumps(whole, indent=1) + "\n")


def json_lines(file):
    return [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")] if file.exists() else []


def verdict(reached, target):
    return "" if not target else f"{'reached' if reached >= target else 'MISSED'} (≥ {target:g}×)"


def print_kernels(rows):
    print(f"{'kernel':46}{'µs':>10}{'GB/s':>8}{'TFLOP/s':>9}{'share':>7}{'peak MB':>9}  rivals")
    for row in rows:
        name = row["name"].split("/iterations:")[0].removeprefix("gpu/")
        if row.get("error_occurred") or row.get("skipped"):
            print(f"{name:46}  failed: {row.get('error_message') or row.get('skip_message', '')}"[:160])
            continue
        rivals = [f"{row[key]:.2f}× {key[6:]} {verdict(row[key], row.get('target_' + key[6:], 0))}".rstrip()
                  for key in row if key.startswith("times_")]
        time = row.get("median_us", row["real_time"])
        print(f"{name:46}{time:>10.1f}{row.get('bytes_per_second', 0) / 1e9:>8.0f}{row.get('flop_per_second', 0) / 1e12:>9.1f}"
              f"{row.get('share_of_bound', 0):>7.2f}{row.get('peak_MB', 0):>9.0f}  {'; '.join(rivals)}")


def print_peers(rows):
    print(f"{'kernel':46}{'ours µs':>10}{'theirs':>10}  ratio")
    for row in rows:
        name = f"{row['kernel']}/{row['direction']}/{row['shape']}"
        if row["status"] != "ok":
            print(f"{name:46}  {row['status']} {row['side']}: {row['message']}"[:160])
        elif row["side"] != "hippodrome":
            ours = next((r for r in rows if r["side"] == "hippodrome" and r["status"] == "ok" and
                         all(r[k] == row[k] for k in ("kernel", "direction", "shape"))), None)
            if ours:
                ratio = row["median_us"] / ours["median_us"]
                target = PEER_TARGETS.get((row["kernel"], row["direction"], row["side"]))
                print(f"{name:46}{ours['median_us']:>10.1f}{row['median_us']:>10.1f}  {ratio:.2f}× {row['side']} {verdict(ratio, target)}")


def print_tests(file, what):
    """Counts of each_test's words; the names of all but the good."""
    if not file.exists():
        print(f"{what}: not run")
        return
    words = collections.defaultdict(collections.Counter)
    bad = []
    for line in file.read_text().splitlines():
        fields = line.split(" ")
        if not fields[0]:
            continue
        words[fields[1]][fields[0]] += 1
        if fields[0] in ("FAILED", "TIMEOUT"):
            bad.append(line)
    for label, counts in words.items():
        print(f"{label}: " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    print("\n".join("  " + line for line in bad))


def print_scale(rows):
    cells = [row for row in rows if row.get("kind") == "scale"]
    done = {(row["model"], row["phase"]): row["length"] for row in sorted(cells, key=lambda r: r["length"]) if row["status"] == "ok"}
    models = list(dict.fromkeys(row["model"] for row in cells))
    print(f"scale: {len(models)} of {ARCHITECTURES} architectures, lengths {LENGTHS[0]} to {LENGTHS[1]}; the longest that each phase ended")
    for model in models:
        print(f"  {model:14}" + "".join(f"{phase}: {done.get((model, phase), 'none')}   " for phase in ("train", "prefill", "decode")))


def summary(folder):
    print_tests(folder / "tests.log", "tests")
    print_tests(folder / "sanitizer.log", "sanitizer")
    print()
    if (folder / "kernels.json").exists():
        whole = json.loads((folder / "kernels.json").read_text())
        print("GPU:", whole["context"].get("gpu", "unknown"), " commit:", whole["context"].get("commit", "unknown"))
        print_kernels(whole["benchmarks"])
    else:
        print("kernels: not run")
    print()
    peers = json_lines(folder / "peers.jsonl")
    print_peers(peers) if peers else print("peers: not run")
    print()
    scale = json_lines(folder / "scale.jsonl")
    print_scale(scale) if scale else print("scale: not run")


if __name__ == "__main__":
    if sys.argv[1] == "--merge":
        merge(sys.argv[2], sys.argv[3:])
    else:
        summary(pathlib.Path(sys.argv[1]))
