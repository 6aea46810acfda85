"""Runs Hippodrome and what people use today on the same shapes, side by side, and prints the ratios beside the targets.

Every measurement is a process of its own. Rounds go through all sides in turn, so that a noisy minute touches all of them; a side's
figure is the median of its samples over all rounds. Rows go to a JSONL file with their provenance. See README.md.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import shapes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TORCH_SETTINGS = {"mamba": ["transformers", "mambapy_scan", "mambapy"], "mamba2": ["transformers"],
                  "rwkv4": ["transformers"], "jamba": ["transformers", "mambapy_scan"], "llama": ["transformers"]}
LLAMA_FAMILIES = {"mamba", "mamba2", "jamba", "llama"}
LENGTHS = {"train": lambda family: [1024, 4096] if family in ("rwkv4", "llama") else [1024],
           "prefill": lambda family: [4096], "decode": lambda family: [1024]}
# glibc gives freed memory back above 32 MiB and pays for every page anew: a third to three quarters of a torch program's time.
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 46), "MALLOC_TOP_PAD_": str(64 << 20)}
# What Hippodrome asks for besides: huge pages, which make reads of tens of megabytes faster.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# Short spins at barriers, as Hippodrome sets for itself: with a busy neighbour a side would otherwise wait for itself.
SPINS = {"GOMP_SPINCOUNT": "10000"}


def busy_cpu_seconds():
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")


def run_child(command, environment, limit, memory):
    """One process: its output, its peak resident bytes, how many cores others used, and how it ended."""
    def cap_memory():
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    before, start = busy_cpu_seconds(), time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=out, stderr=errors, cwd=HERE, preexec_fn=cap_memory,
                                 env={**os.environ, **SPINS, **environment})
        timer = threading.Timer(limit, child.kill)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        late = not timer.is_alive()
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        out.seek(0)
        errors.seek(0)
        others = max(0.0, busy_cpu_seconds() - before - usage.ru_utime - usage.ru_stime) / wall
        result = {"peak_bytes": usage.ru_maxrss * 1024, "others_cores": round(others, 3), "wall_seconds": round(wall, 3)}
        if child.returncode == 0:
            return {**result, "status": "ok", "message": ""}, out.read()
        text = errors.read().strip()
        if late:
            return {**result, "status": "timeout", "message": f"stopped after {limit:.0f} s"}, ""
        full = "memory" in text.lower() or "bad_alloc" in text or "alloc" in text.lower() and "fail" in text.lower()
        return {**result, "status": "out_of_memory" if full else "failed", "message": text.split("\n")[-1][:300]}, ""


def measure_ours(arguments, family, phase, length):
    with tempfile.TemporaryDirectory() as folder:
        recipe = pathlib.Path(folder, "recipe.toml")
        recipe.write_text(shapes.recipe(family, phase, length, arguments.threads, arguments.repeats, arguments.seconds))
        result, _ = run_child([str(arguments.program), "scale", str(recipe), "--out", f"{folder}/run", "--json"], {},
                              arguments.limit, arguments.memory)
        rows = pathlib.Path(folder, "run", "rows.jsonl")
        for row in map(json.loads, rows.read_text().splitlines()) if rows.exists() else []:
            if row["kind"] != "scale":
                continue
            if row["status"] != "ok":
                return {**result, "status": row["status"], "message": row["message"]}
            tokens = row["tokens_per_second"] * statistics.median(row["samples_seconds"])
            return {**result, "tokens": round(tokens), "samples_seconds": row["samples_seconds"],
                    "parameters": row["parameters"], "own_provenance": row["provenance"]}
        return {**result, "status": result["status"] if result["status"] != "ok" else "failed",
                "message": result["message"] or "no row was written"}


def measure_peer(arguments, script, family, phase, length, more, environment):
    command = [sys.executable, "-BEs", str(HERE / f"{script}.py"), family, phase, str(length), "--threads", str(arguments.threads),
               "--repeats", str(arguments.repeats), "--seconds", str(arguments.seconds), "--cap", str(arguments.cap), *more]
    threads = {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    result, output = run_child(command, {**environment, **threads}, arguments.limit, arguments.memory)
    if result["status"] != "ok":
        return result
    measured = json.loads(output.strip().splitlines()[-1])
    if "at_least_seconds" in measured:
        result = {**result, "status": "too_slow", "message": f"the first sample took more than {arguments.cap:g} s"}
    return {**measured, **result}


def sides(arguments, family, phase):
    """(name, function of the length) for every side that has this family and phase."""
    result = [("hippodrome", lambda length: measure_ours(arguments, family, phase, length))]
    settings = TORCH_SETTINGS[family] + (["compiled"] if arguments.compile else [])
    if arguments.settings:
        settings = [setting for setting in settings if setting in arguments.settings]

    def torch(setting, environment):
        return lambda length: measure_peer(arguments, "torch_peer", family, phase, length, ["--setting", setting], environment)
    for setting in settings:
        if phase == "decode" and setting == "mambapy_scan":
            continue  # decoding has no scan
        result.append((f"{setting}+kept", torch(setting, KEPT_MEMORY)))
        if arguments.huge_pages:
            result.append((f"{setting}+kept+huge", torch(setting, {**KEPT_MEMORY, **HUGE_PAGES})))
        if arguments.plain:
            result.append((setting, torch(setting, {})))
    if phase != "train" and family in LLAMA_FAMILIES:
        result.append(("llama.cpp", lambda length: measure_peer(arguments, "llama_peer", family, phase, length, [], {})))
    return result


def provenance(arguments):
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    from importlib.metadata import PackageNotFoundError, version
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "mambapy", "llama-cpp-python", "gguf"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno")),
            "hardware": {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count()}, "versions": versions,
            "threads": arguments.threads, "dtype": "float32",
            "started": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def speed(rows):
    samples = [s for row in rows if row["status"] == "ok" for s in row["samples_seconds"]]
    tokens = next((row["tokens"] for row in rows if row["status"] == "ok"), None)
    return tokens / statistics.median(samples) if samples else None


def most_speed(rows):
    """Tokens per second that a side stayed below in its first sample, behind a whole warm-up, which was given up."""
    return next((row["tokens"] / row["at_least_seconds"] for row in rows if "at_least_seconds" in row), None)


def compare(arguments, write, family, phase, length, source):
    measured = {name: [] for name, _ in sides(arguments, family, phase)}
    for turn in range(arguments.rounds):
        for name, measure in sides(arguments, family, phase):
            if any(row["status"] != "ok" for row in measured[name]):
                continue  # what ran out of time or memory would do so again
            row = {"kind": "peer", "family": family, "phase": phase, "length": length, "side": name, "round": turn,
                   **measure(length)}
            rate = speed([row])
            row["tokens_per_second"] = rate
            row["provenance"] = source
            measured[name].append(row)
            write(row)
            print(f"  {family} {phase} {length:>6}  {name:<20} " +
                  (f"{rate:>12,.0f} tokens/s  {row['peak_bytes'] / 2**30:6.2f} GiB" if rate else f"{row['status']}: {row['message']}"),
                  file=sys.stderr, flush=True)
    return summary(family, phase, length, measured)


def summary(family, phase, length, measured):
    rates = {name: speed(rows) for name, rows in measured.items()}
    ours = rates["hippodrome"]
    torch = {name: rate for name, rate in rates.items() if rate and name not in ("hippodrome", "llama.cpp")}
    best = max(torch, key=torch.get) if torch else None
    limits = {name: most_speed(rows) for name, rows in measured.items() if name != "llama.cpp" and most_speed(rows)}
    # A side that was given up is slower than this; where no side that finished is faster, the ratio is at least ours to it.
    limit = max([*limits.values(), *torch.values()], default=None)
    peak = {name: max((row["peak_bytes"] for row in rows), default=None) for name, rows in measured.items()}
    target_torch, target_llama = shapes.TARGETS.get((family, phase, length), (None, None))
    llama = rates.get("llama.cpp")
    result = {"kind": "peer_ratio", "family": family, "phase": phase, "length": length, "tokens_per_second": rates,
              "peak_bytes": peak, "best_torch": best,
              "slower_than": limits, "against_torch": ours / limit if ours and limit else None,
              "against_torch_is_bound": bool(limit and (best is None or limit > torch[best])), "target_against_torch": target_torch,
              "against_llama_cpp": ours / llama if ours and llama else None, "target_against_llama_cpp": target_llama,
              "memory_against_torch": peak["hippodrome"] / peak[best] if ours and best else None,
              "memory_target": shapes.MEMORY_TARGET.get((family, phase, length)),
              "parameters": {name: row["parameters"] for name, rows in measured.items() for row in rows if "parameters" in row}}
    return result


def number(value, form="{:,.0f}", absent="–"):
    return form.format(value) if value is not None else absent


def print_table(results):
    print("| | ours, tokens/s | best torch | ratio | target | llama.cpp F32 | ratio | target | memory against torch |")
    print("|---|---|---|---|---|---|---|---|---|")
    for r in results:
        rates = r["tokens_per_second"]
        bound = "> " if r["against_torch_is_bound"] else ""
        best = f"{number(rates[r['best_torch']])} ({r['best_torch']})" if r["best_torch"] else "none finished"
        if bound:
            best += f"; others < {max(r['slower_than'].values()):,.0f}" if r["best_torch"] else f" (< {max(r['slower_than'].values()):,.0f})"
        memory = number(r["memory_against_torch"], "{:.2f}")
        if r["memory_target"]:
            memory += f" (target {r['memory_target']:.3f})"
        print(f"| {r['phase']} {r['family']} {r['length']:,} | {number(rates['hippodrome'])} | {best} | "
              f"{bound}{number(r['against_torch'], '{:.2f}×')} | {number(r['target_against_torch'], '≥ {:g}×')} | "
              f"{number(rates.get('llama.cpp'))} | {number(r['against_llama_cpp'], '{:.2f}×')} | "
              f"{number(r['target_against_llama_cpp'], '≥ {:g}×')} | {memory} |")
    for r in results:
        counts = r["parameters"]
        if counts and max(counts.values()) > 1.02 * min(counts.values()):
            print(f"note: {r['family']} differs in size between sides: {counts}")


def available_memory():
    return int(re.search(r"MemAvailable:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=shapes.FAMILIES, default=list(shapes.FAMILIES), help="families")
    parser.add_argument("--phase", nargs="+", choices=list(LENGTHS), default=list(LENGTHS), help="phases")
    parser.add_argument("--lengths", nargs="+", type=int, help="instead of those that the targets name")
    parser.add_argument("--rounds", type=int, default=3, help="times that every side has its turn")
    parser.add_argument("--repeats", type=int, default=3, help="samples per turn")
    parser.add_argument("--seconds", type=float, default=15.0, help="after which a turn takes no further sample")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which a turn is stopped")
    parser.add_argument("--cap", type=float, default=60.0, help="seconds after which a peer's first sample, behind its warm-up, is given up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="torch also without keeping freed memory")
    parser.add_argument("--huge-pages", action="store_true", help="torch also with huge pages")
    parser.add_argument("--settings", nargs="+", choices=["transformers", "mambapy_scan", "mambapy", "compiled"],
                        help="torch sides; default: all that the family has")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; give it a --limit of minutes")
    parser.add_argument("--memory", type=int, default=int(0.85 * available_memory()), help="bytes that a side may take")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/bin/hippodrome")
    parser.add_argument("--out", type=pathlib.Path, help="rows; default: benchmarks/results/peers_DAY.jsonl, appended to")
    arguments = parser.parse_args()
    if not shutil.which(str(arguments.program)):
        raise SystemExit(f"{arguments.program} is missing: run `make build` first")
    out = arguments.out or ROOT / f"benchmarks/results/peers_{datetime.date.today()}.jsonl"
    source = provenance(arguments)
    results = []
    with open(out, "a") as file:
        def write(row):
            file.write(json.dumps(row) + "\n")
            file.flush()
        for phase in arguments.phase:
            for family in arguments.only:
                for length in arguments.lengths or LENGTHS[phase](family):
                    results.append(compare(arguments, write, family, phase, length, source))
                    write({**results[-1], "provenance": source})
    print_table(results)
    print(f"rows: {out}")


if __name__ == "__main__":
    main()
